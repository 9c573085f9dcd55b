"""How long indexing takes: cold, unchanged, after one file has changed; and how large the result is.

    python benchmarks/indexing.py REPO [REPO ...]

A new repository is made of the source files, so that the given one isn't touched. Times are wall-clock; the processor
time beside them tells a slow program from a busy machine. One file is then saved with two more lines, not committed.
Then how fast searches are over what was built, at places drawn from it. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from homespun_core.config import Settings
from homespun_core.paths import DataDir
from homespun_core.types import SearchQuery, SilentProgress
from homespun_indexer.files import SourceFile, source_files
from homespun_indexer.indexing import index_repository
from homespun_indexer.model_files import resolve_base_model
from homespun_indexer.reader import IndexReader
from homespun_indexer.repository import Repository, open_repository
from homespun_indexer.tokenizer import load_tokenizer

T = TypeVar("T")
QUERIES = 400


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("repositories", nargs="+", metavar="REPO")
    args = parser.parse_args()
    results = {}
    print(f"{'repository':24} {'files':>6} {'lines':>8} {'MB':>5}  {'cold s (cpu)':>13} {'unchanged':>10}", end="")
    print(f" {'one file':>13} {'files/s':>8} {'open s':>7} {'p50 ms':>7} {'p95 ms':>7}")
    for source in args.repositories:
        with tempfile.TemporaryDirectory(prefix="homespun-benchmark-") as folder:
            row = measure(Path(source), Path(folder))
        results[str(row.pop("name"))] = row
    print(json.dumps({"benchmark": "indexing", "results": results}))


def measure(source: Path, folder: Path) -> dict[str, object]:
    clone, data = folder / "clone", DataDir(folder / "data")
    copy_sources(source, clone, data)
    model = resolve_base_model("builtin", "auto")
    tokenizer, settings, progress = load_tokenizer(model), Settings(), SilentProgress()

    def opened() -> Repository:
        return open_repository(str(clone), data, timeout_s=60, progress=progress)

    def index() -> Path:
        return index_repository(
            opened(), settings=settings, data=data, model=model, tokenizer=tokenizer, progress=progress
        )

    _, cold, cold_cpu = timed(index)
    path, same, _ = timed(index)
    files = source_files(opened(), settings=settings)
    changed = clone / max(files, key=lambda f: len(f.text)).path
    changed.write_text(changed.read_text(encoding="utf-8") + "\n\nCHANGED = 1\n", encoding="utf-8")
    path, one, one_cpu = timed(index)
    megabytes = sum(f.stat().st_size for f in path.rglob("*") if f.is_file()) / 1e6
    reader, opening, _ = timed(lambda: IndexReader.open(path, tokenizer))
    with reader:
        p50, p95 = search_times(reader, files)
        info = reader.manifest.info
    name = "/".join(source.absolute().parts[-2:])
    rate = len(files) / cold
    print(
        f"{name[:24]:24} {info['files']:>6} {info['lines']:>8} {megabytes:5.0f}  {cold:6.1f} ({cold_cpu:4.1f})", end=""
    )
    print(f" {same:10.2f} {one:6.1f} ({one_cpu:4.1f}) {rate:8.0f} {opening:7.2f} {p50:7.1f} {p95:7.1f}")
    return {
        "name": name,
        "files": info["files"],
        "lines": info["lines"],
        "chunks": info["chunks"],
        "megabytes": round(megabytes, 1),
        "cold_s": round(cold, 2),
        "cold_cpu_s": round(cold_cpu, 2),
        "unchanged_s": round(same, 3),
        "one_file_s": round(one, 2),
        "one_file_cpu_s": round(one_cpu, 2),
        "files_per_s": round(rate),
        "open_s": round(opening, 3),
        "search_p50_ms": round(p50, 2),
        "search_p95_ms": round(p95, 2),
    }


def copy_sources(source: Path, clone: Path, data: DataDir) -> None:
    repo = open_repository(str(source), data, timeout_s=60, progress=SilentProgress())
    for file in source_files(repo, settings=Settings(), commit=repo.head):
        path = clone / file.path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(file.text, encoding="utf-8")
    person = ["-c", "user.name=Benchmark", "-c", "user.email=benchmark@example.com"]
    for command in (["init", "--quiet"], ["add", "--all", "--force"], [*person, "commit", "--quiet", "--message=All"]):
        subprocess.run(["git", *command], cwd=clone, check=True)


def timed(work: Callable[[], T]) -> tuple[T, float, float]:
    wall, cpu = time.perf_counter(), time.process_time()
    result = work()
    return result, time.perf_counter() - wall, time.process_time() - cpu


def search_times(reader: IndexReader, files: list[SourceFile]) -> tuple[float, float]:
    """Median and 95th percentile in milliseconds, at places drawn from the indexed files."""
    rng = random.Random(0)
    times = []
    for file in rng.choices(files, k=QUERIES):
        at = rng.randrange(len(file.text))
        query = SearchQuery(prefix=file.text[:at], suffix=file.text[at:], path=file.path, language=file.language)
        times.append(timed(lambda query=query: reader.search(query, 3))[1] * 1_000)  # type: ignore[misc]
    times.sort()
    return times[len(times) // 2], times[int(len(times) * 0.95)]


if __name__ == "__main__":
    main()
