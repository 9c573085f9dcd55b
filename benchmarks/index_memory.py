"""What an index costs a gateway that maps it: memory of its own, what a search touches of the files, and how much
longer it takes when nothing of them is in memory.

    python benchmarks/index_memory.py INDEX REPO [--searches 100]

INDEX is a generation's folder (index/<repo>/<generation> in the data directory), REPO a clone, at whose random places
is searched. "Cold": every mapped page was given back to the system before each search (MADV_PAGEOUT), so that it is
read from the disk again. On a volume over the network each of these reads takes a round trip more, so `reads` times
that is what a search takes there after its pages were evicted. Median and 95 %; the last line is JSON.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import random
import resource
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median

from homespun_core.types import SearchQuery
from homespun_indexer.reader import IndexReader

_MADV_PAGEOUT = 21
_LIMIT = 3


def mapped(folder: Path) -> Iterator[tuple[int, int, int]]:
    """Address, size and resident KiB of each mapping of a file in `folder`."""
    here = None
    for line in Path("/proc/self/smaps").read_text().splitlines():
        words = line.split()
        if "-" in words[0] and not words[0].endswith(":"):
            start, _, end = words[0].partition("-")
            here = (int(start, 16), int(end, 16)) if f"{folder}/" in line else None
        elif here and words[0] == "Rss:":
            yield here[0], here[1] - here[0], int(words[1])


def give_back(folder: Path) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    for start, size, _ in mapped(folder):
        if libc.madvise(ctypes.c_void_p(start), ctypes.c_size_t(size), _MADV_PAGEOUT):
            raise SystemExit(f"madvise: errno {ctypes.get_errno()}; MADV_PAGEOUT needs Linux 5.4")


def anonymous_mb() -> float:
    (line,) = [x for x in Path("/proc/self/smaps_rollup").read_text().splitlines() if x.startswith("Anonymous:")]
    return int(line.split()[1]) / 1024


def queries(repository: Path, number: int) -> list[SearchQuery]:
    chooser = random.Random(0)
    files = sorted(p for p in repository.rglob("*") if p.suffix in (".java", ".py", ".go", ".ts", ".scala"))
    found = []
    for path in chooser.sample(files, min(number, len(files))):
        text = path.read_text(errors="replace")
        at = chooser.randrange(len(text) + 1)
        found.append(SearchQuery(prefix=text[:at], suffix=text[at:], path=None, language=None))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("index", type=Path)
    parser.add_argument("repository", type=Path, help="a clone, for places to search at")
    parser.add_argument("--searches", type=int, default=100)
    args = parser.parse_args()
    before = anonymous_mb()
    reader = IndexReader.open(args.index)
    own_mb = anonymous_mb() - before
    wanted = queries(args.repository, args.searches)
    rows: dict[str, list[float]] = {"warm ms": [], "cold ms": [], "touched KiB": [], "reads": []}
    for query in wanted:
        reader.search(query, _LIMIT)
        rows["warm ms"].append(_timed(reader, query))
        give_back(args.index.resolve())
        reads = resource.getrusage(resource.RUSAGE_SELF).ru_majflt
        rows["cold ms"].append(_timed(reader, query))
        rows["reads"].append(resource.getrusage(resource.RUSAGE_SELF).ru_majflt - reads)
        rows["touched KiB"].append(sum(kib for _, _, kib in mapped(args.index.resolve())))
    give_back(args.index.resolve())
    for query in wanted:
        reader.search(query, _LIMIT)
    together_mb = sum(kib for _, _, kib in mapped(args.index.resolve())) / 1024
    size_mb = sum(file.stat().st_size for file in args.index.iterdir()) / 1e6
    found = {name: [round(median(r), 1), round(sorted(r)[int(len(r) * 0.95)], 1)] for name, r in rows.items()}
    found |= {
        "index MB": [round(size_mb, 1)],
        "own MB": [round(own_mb, 1)],
        "touched by all MB": [round(together_mb, 1)],
    }
    for name, values in found.items():
        print(f"{name:20}", *values)
    print(json.dumps({"benchmark": "index_memory", "searches": len(wanted), **found}))


def _timed(reader: IndexReader, query: SearchQuery) -> float:
    started = time.perf_counter()
    reader.search(query, _LIMIT)
    return (time.perf_counter() - started) * 1e3


if __name__ == "__main__":
    main()
