"""How much better completions get on repositories with history: `homespun eval` on each of them, and the median.

    python benchmarks/quality.py ~/code/shop ~/code/till --data-dir /tmp/quality --train-minutes 5 --places 1000
    python benchmarks/quality.py A B C D E --data-dir /tmp/quality --budget 10     # a night of hours for all of it

An adapter is trained for each first (or the last one taken, when nothing has changed), whether the gate lets it go
live or not. With several repositories the adapter of the next one is every one's control. This indexes and trains for
real; give it a data directory of its own. What was finished is kept: a run that was stopped by Ctrl-C, kill -9 or a
reboot goes on with the same command. One repository that fails doesn't keep the others from it. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from statistics import median
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as `homespun train` does

from homespun_core.allocator import restart_with_jemalloc
from homespun_core.config import INDEX, TRAIN, Settings
from homespun_core.errors import HomespunError
from homespun_core.loading import add_flags, settings_from_args
from homespun_core.logs import configure_logging
from homespun_indexer.progress import progress_for_terminal
from homespun_trainer import report
from homespun_trainer.cli import train
from homespun_trainer.comparing.cli import Wanted, evaluate_repository
from homespun_trainer.publishing import Outcome
from homespun_trainer.train import TrainingInterruptedError

_JUDGING_S = 1.6
"""A place costs so long to judge and compare: 0.1 s for an arm (benchmarks/LOG.md, 2026-11-28), on a busy machine."""
_REST_MINUTES = 6.0
"""Of a repository: its index, canaries, other code, the page."""
_LEAST_MINUTES = 1.0

_COLUMNS = (("exact_match", "+.1%"), ("edit_similarity", "+.3f"), ("bits_per_byte", "+.3f"))


def main() -> None:
    args = _arguments()
    settings = settings_from_args(args).settings
    settings = replace(settings, eval_tasks=max(settings.eval_tasks, args.places))  # so many must lie after the cut
    if args.budget is not None:
        settings = replace(settings, train_minutes=minutes_each(args.budget, len(args.repositories), args.places))
    configure_logging(settings.log_level, settings.log_format)
    try:
        _measure(args, settings)
    except (KeyboardInterrupt, TrainingInterruptedError):
        sys.exit("stopped; the same command goes on from here")


def minutes_each(hours: float, repositories: int, places: int) -> float:
    """Of training, so that all ends in that time. By the numbers alone, and not by what is left: a run that goes on
    must ask for the same training as before."""
    rest = _REST_MINUTES + places * _JUDGING_S / 60
    return max(_LEAST_MINUTES, round(hours * 60 / repositories - rest, 1))


def _measure(args: argparse.Namespace, settings: Settings) -> None:
    progress, started = progress_for_terminal(), time.monotonic()
    print(f"{settings.train_minutes:g} minutes of training for each of {len(args.repositories)}", flush=True)
    trained: dict[str, Outcome] = {}
    for source in args.repositories:
        with _apart(source):
            trained[source] = train(source, settings, progress)
    results, outcomes = {}, list(trained.values())
    for number, (source, outcome) in enumerate(trained.items()):
        wanted = Wanted(adapter=outcome.version, other=_other(outcomes, number), since=args.since, places=args.places)
        with _apart(source):
            facts, page = evaluate_repository(source, settings, wanted, progress)
            print(f"{source} ({_training(outcome)}; {page})\n{report.render_scores(facts)}\n", flush=True)
            results[source] = facts
    if not results:
        sys.exit("nothing was measured")
    differences = _medians([facts["differences"] for facts in results.values()])
    print(_table(differences, len(results)))
    seconds = round(time.monotonic() - started, 1)
    print(json.dumps({"seconds": seconds, "median": differences, "repositories": results}, separators=(",", ":")))


@contextmanager
def _apart(source: str) -> Iterator[None]:
    try:
        yield
    except HomespunError as error:
        print(f"{source}: left out: {error}", file=sys.stderr, flush=True)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("repositories", nargs="+", metavar="REPO", help="path or URL of a git repository")
    parser.add_argument("--places", type=int, default=1_000, metavar="N", help="places of each (default: 1000)")
    parser.add_argument(
        "--budget", type=float, metavar="HOURS", help="for all of it; sets how long is trained, not --train-minutes"
    )
    parser.add_argument("--since", metavar="DAY_OR_COMMIT", help="default: since each adapter was trained")
    add_flags(parser, (TRAIN, INDEX))
    return parser.parse_args()


def _other(trained: Sequence[Outcome], number: int) -> Any:
    return trained[(number + 1) % len(trained)].path if len(trained) > 1 else None


def _training(outcome: Outcome) -> str:
    facts = outcome.report["training"]
    verdict = "goes live" if outcome.report["promote"] else "kept off: " + "; ".join(outcome.report["reasons"])
    return f"{facts['tokens']:,} tokens in {facts['seconds']:.0f} s, {verdict}"


def _medians(repositories: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    """Difference -> metric -> its median over the repositories that have it."""
    names = dict.fromkeys(name for differences in repositories for name in differences)
    return {
        name: {key: median(d[name][key]["value"] for d in repositories if name in d) for key, _ in _COLUMNS}
        for name in names
    }


def _table(differences: Mapping[str, Mapping[str, float]], count: int) -> str:
    width = max(map(len, differences), default=0)
    head = f"median of {count} repositories\n  {'':<{width}}" + "".join(f"{key:>18}" for key, _ in _COLUMNS)
    rows = [
        f"  {name:<{width}}" + "".join(f"{format(values[key], form):>18}" for key, form in _COLUMNS)
        for name, values in differences.items()
    ]
    return "\n".join([head, *rows])


if __name__ == "__main__":
    restart_with_jemalloc(sys.argv)  # as `homespun train` does
    main()
