"""What personalisation brings on one repository: four arms, on lines written after the adapter's corpus was cut.

    python benchmarks/quality.py REPO [--train-minutes 5] [--eval-tasks 200] [--data-dir DIR]

Indexes and trains for real; give it a data directory of its own. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as `homespun train` does

from homespun_core.cli import configure_logging
from homespun_core.config import INDEX, TRAIN, add_flags, settings_from_args
from homespun_indexer.progress import progress_for_terminal
from homespun_trainer import report
from homespun_trainer.cli import train


def main() -> None:
    args = _arguments()
    settings = settings_from_args(args).settings
    configure_logging(settings.log_level)
    started = time.monotonic()
    outcome = train(args.repository, settings, progress_for_terminal())
    seconds = round(time.monotonic() - started, 1)
    training = outcome.report["training"]
    print(
        f"{training['tokens']:,} tokens in {training['seconds']:.0f} s ({training['tokens_per_second']:,}/s,"
        f" {training['placement']}), {seconds} s in all"
    )
    print(report.render(outcome.report))
    for name, parts in outcome.report["arms"].items():
        print(
            "  ".join(
                [f"  {name:<20}", *(_short(part, parts[part]) for part in ("all", "seen", "novel") if part in parts)]
            )
        )
    for name, change in outcome.report["differences"].items():
        text = change["text_bits_per_byte"]
        print(f"  {name}: without the end {text['value']:+.3f} [{text['low']:+.3f}, {text['high']:+.3f}] bits per byte")
    print(json.dumps({"version": outcome.version, "seconds": seconds, **outcome.report}, separators=(",", ":")))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("repository", metavar="REPO", help="path or URL of a git repository")
    add_flags(parser, (TRAIN, INDEX))
    return parser.parse_args()


def _short(part: str, scores: dict[str, Any]) -> str:
    exact, bits, text = (scores[key]["value"] for key in ("exact_match", "bits_per_byte", "text_bits_per_byte"))
    return f"{part} {scores['tasks']:>4}: exact {exact:.1%}, {bits:.3f} bits per byte ({text:.3f} without the end)"


if __name__ == "__main__":
    main()
