"""What a number format costs in quality: held-out lines completed and scored in each, paired, by the server's engine.

    python benchmarks/formats.py REPO [REPO ...] [--tasks 400] [--formats float32 int8]

`int8-apart` and the like: without spelling the last word before the cursor again (token healing, `core/prompt.py`).

As `retrieval.py --model`: the index and the lines are cut in time, the prompts have the snippets that the server would
show, the completions are greedy. Differences are against the first format, 95 % intervals by commit.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from retrieval import HEADS, Frozen, cells, opened

from homespun_core.config import Settings
from homespun_core.paths import DataDir
from homespun_core.types import SilentProgress, Snippet
from homespun_indexer.model_files import resolve_base_model
from homespun_trainer.cli.judging import opened_engine
from homespun_trainer.cli.preparing import prepared
from homespun_trainer.evaluate import Arm, Bench, Score, judge, query_of
from homespun_trainer.judging import bench_of
from homespun_trainer.summaries import difference, summarise


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("repositories", nargs="+", metavar="REPO")
    parser.add_argument("--tasks", type=int, default=400)
    parser.add_argument("--formats", nargs="+", default=["float32", "int8"])
    parser.add_argument("--data", type=Path, default=Path("build/benchmark-data"))
    args = parser.parse_args()
    settings = Settings(data_dir=str(args.data.absolute()), eval_tasks=args.tasks)
    results = {}
    for source in args.repositories:
        with opened(source, settings) as frozen:
            results[frozen.name] = compare(frozen, args.formats)
    print(json.dumps({"benchmark": "formats", "results": results}))


def compare(frozen: Frozen, formats: Sequence[str]) -> dict[str, Any]:
    snippets = [frozen.reader.search(query_of(task), frozen.settings.snippet_count) for task in frozen.tasks]
    print(f"\n{frozen.name}\n{'':22} {HEADS}   against {formats[0]}:")
    scores: dict[str, list[Score]] = {}
    rows = {}
    for name in formats:
        started = time.perf_counter()
        scores[name] = scored(frozen, snippets, name)
        ms = (time.perf_counter() - started) * 1e3 / len(frozen.tasks)
        own, change = summarise(frozen.tasks, scores[name]), difference(frozen.tasks, scores[name], scores[formats[0]])
        print(f"{name:22} {cells(own, '')}   {ms:.0f} ms a line")
        if name != formats[0]:
            print(f"{'':22} {cells(change, '+')}")
        rows[name] = {"scores": own.as_json(), "difference": change.as_json(), "ms": round(ms, 1)}
    return rows


def scored(frozen: Frozen, snippets: Sequence[Sequence[Snippet]], dtype: str) -> list[Score]:
    name, _, apart = dtype.partition("-")
    settings = dataclasses.replace(frozen.settings, dtype=name)
    files = resolve_base_model(settings.base_model, settings.fim_family)
    with (
        prepared([frozen.repo], files, settings, DataDir(settings.data_root), SilentProgress()) as job,
        opened_engine(files, settings) as engine,
    ):
        plain = bench_of(job, job.parts[0], engine)
        bench = without_healing(plain) if apart else plain
        arm = Arm(name=dtype, adapter=None, snippets="found")
        return [judge(task, arm, bench, tuple(shown)) for task, shown in zip(frozen.tasks, snippets, strict=True)]


def without_healing(bench: Bench) -> Bench:
    return dataclasses.replace(bench, builder=dataclasses.replace(bench.builder, is_healing=False))


if __name__ == "__main__":
    main()
