"""How long indexing takes and what it costs: cold, cached, unchanged, after a push, after a save; then searches.

    python benchmarks/indexing.py REPO [REPO ...] [--scale 1] [--rounds 20]

A new repository is made of the source files, so that the given one isn't touched, and indexed as `homespun index
--watch` does it. Beside a cold index stands what parsing alone takes: the same files through the same grammars and as
many processes, the bytes already in their memory, without starting them and without looking at a tree. A save or a push
is over when a reader, opened after the one before it, finds a name that wasn't there; a hooked push, from the forge's
call to a server that serves it, when the server says so. Peak memory is the largest sum of
resident memory of all our processes, looked at every 50 ms, so what they share counts once for each. Searches run one
after the other on one thread, at places drawn from the files.

With `--scale N` the repository holds every file N times, under N top folders. In each copy but the first, half of the
names of several parts (`getUserName`, `user_name`; keywords have one) end in the number of the copy, wherever they
stand: so vocabularies and blobs differ between copies, as they do between the parts of a large repository, and parse as
well as before. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import queue
import random
import re
import resource
import shutil
import statistics
import subprocess
import tempfile
import threading
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

os.environ.setdefault("OMP_NUM_THREADS", "1")  # one thread a search; read when numpy is imported

from hooked import following

from homespun_core.config import Settings
from homespun_core.languages import comment_prefix, language_named
from homespun_core.paths import DataDir, repo_id
from homespun_core.repositories import RepositoryConfig
from homespun_core.types import SearchQuery, SilentProgress, Tokenizer
from homespun_indexer import layout
from homespun_indexer.build import SpareBuilder, build_segment
from homespun_indexer.cli import BaseModel, Indexed, index_once
from homespun_indexer.files import source_files
from homespun_indexer.grammars import syntax_of
from homespun_indexer.indexing import IndexMemory
from homespun_indexer.processes import num_processes
from homespun_indexer.reader import IndexReader
from homespun_indexer.repository import open_repository
from homespun_indexer.watch import After, watch

T = TypeVar("T")
Row = dict[str, float]

QUERIES = 400
PARSES = 3
PUSHED_FILES, PUSHES, HOOKED_PUSHES = 20, 5, 8
REST_S = 1.0
"""Between hooked pushes, which in life are seldom closer: until a process waits for the next one."""
CONTEXT_TOKENS, DRAFT_TOKENS = 48, 8
MEMORY_EVERY_S = 0.05
READY_S = 2.0
"""Until the process that waits has loaded everything."""
_COMPOUND = re.compile(r"\b[A-Za-z]+(?:_[A-Za-z]|[a-z][A-Z])\w*")
_PERSON = ("-c", "user.name=Benchmark", "-c", "user.email=benchmark@example.com", "-c", "gc.auto=0")
_WAIT_S = 600


@dataclass(frozen=True, slots=True)
class Source:
    """A file of the repository that is measured. The text is read when it is needed: ours is memory we measure."""

    path: str
    language: str
    size: int


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("repositories", nargs="+", metavar="REPO")
    parser.add_argument("--scale", type=int, default=1, help="copies of the sources that the repository holds")
    parser.add_argument("--rounds", type=int, default=20, help="saves that are timed")
    args = parser.parse_args()
    results = {}
    for source in args.repositories:
        name = "/".join(Path(source).absolute().parts[-2:]) + (f" x {args.scale}" if args.scale > 1 else "")
        with tempfile.TemporaryDirectory(prefix="homespun-benchmark-") as folder:
            row = measure(Path(source), Path(folder), args.scale, args.rounds)
        results[name] = {key: float(f"{value:.8g}" if value > 1_000 else f"{value:.4g}") for key, value in row.items()}
    print_table(results)
    print(json.dumps({"benchmark": "indexing", "processes": num_processes(), "results": results}))


def measure(source: Path, folder: Path, scale: int, rounds: int) -> Row:
    files = apart(copy_sources, source, folder / "clone", folder / "copied", scale)
    subject = Subject(folder / "clone", folder / "data", files)
    row = {**cold(subject), **warm(subject), **unchanged(subject)}
    with subject.opened() as reader:
        row |= searches(subject, reader)
    row |= pushes(subject) | hooked_pushes(subject, folder / "hooked")
    return row | saves(subject, rounds) | watched(subject, rounds)


class Subject:
    """A repository and its index."""

    def __init__(self, clone: Path, data: Path, files: Sequence[Source]) -> None:
        self.clone, self.files, self.data = clone, files, DataDir(data)
        self.random = random.Random(0)
        self._settings = Settings(data_dir=str(data))
        self._model = BaseModel.load(self._settings)
        self.tokenizer: Tokenizer = self._model.tokenizer
        self._num_names = 0

    def index(self, memory: IndexMemory | None = None) -> Indexed:
        """With a memory the base model stays loaded as well, as under `--watch`."""
        model = self._model if memory is not None else None
        return index_once(RepositoryConfig(source=str(self.clone)), self._settings, SilentProgress(), memory, model)

    @contextmanager
    def followed(self) -> Iterator[IndexMemory]:
        """As under `--watch`: a process waits for what comes."""
        with closing(SpareBuilder(build_segment)) as spare:
            spare.renew(self._model.files, repo_id(str(self.clone)))
            time.sleep(READY_S)
            yield IndexMemory(spare=spare)

    def opened(self, previous: IndexReader | None = None, memory: IndexMemory | None = None) -> IndexReader:
        return IndexReader.open(self.index(memory).path, self.tokenizer, previous)

    def write(self, files: Sequence[Source]) -> str:
        """Add a line to each file; returns a name that stands in all of those lines and nowhere else."""
        self._num_names += 1
        name = f"benchmarkedName{self._num_names}"
        for file in files:
            with (self.clone / file.path).open("a", encoding="utf-8") as opened:
                opened.write(f"\n{comment_prefix(file.language)} {name}\n")
        return name


def finds(reader: IndexReader, name: str) -> bool:
    """In the best chunk: the snippet shows a part of it, which need not be that line."""
    query = SearchQuery(prefix=name, suffix="", path=None, language=None)
    chunks = [reader.chunk_at(snippet.path, snippet.start_line) for snippet in reader.search(query, 1)]
    return any(chunk is not None and name in chunk.text for chunk in chunks)


def cold(subject: Subject) -> Row:
    groups = layout.cut([file.size for file in subject.files], num_processes())
    bare_s, bare_cpu_s = parsed_alone(subject, min(num_processes(), len(groups)))
    with peak_memory() as peak:
        indexed, cold_s, cpu_s = timed(subject.index)
    info = indexed.manifest.info
    num_bytes = sum(file.size for file in subject.files)
    index_bytes, cache_bytes = size_of(indexed.path), size_of(subject.data.cache)
    return {
        "files": _number(info["files"]),
        "lines": _number(info["lines"]),
        "source_mb": num_bytes / 1e6,
        "bare_parse_s": bare_s,
        "bare_parse_cpu_s": bare_cpu_s,
        "cold_s": cold_s,
        "cold_cpu_s": cpu_s,
        "share_of_parsing_speed": bare_s / cold_s,
        "share_in_cpu_s": bare_cpu_s / cpu_s,
        "lines_per_s": _number(info["lines"]) / cold_s,
        "peak_mb": peak() / 1e6,
        "index_mb": index_bytes / 1e6,
        "index_to_source": index_bytes / num_bytes,
        "cache_to_source": cache_bytes / num_bytes,
    }


def warm(subject: Subject) -> Row:
    shutil.rmtree(subject.data.index_root)
    _, seconds, cpu_s = timed(subject.index)
    return {"cached_s": seconds, "cached_cpu_s": cpu_s}


def unchanged(subject: Subject) -> Row:
    memory = IndexMemory()
    subject.index(memory)
    return {"unchanged_s": timed(subject.index)[1], "unchanged_watched_s": timed(lambda: subject.index(memory))[1]}


def searches(subject: Subject, reader: IndexReader) -> Row:
    _, open_s, _ = timed(lambda: IndexReader.open(reader.path, subject.tokenizer))
    queries = [_query(subject) for _ in range(QUERIES)]
    contexts = [subject.tokenizer.encode(q.prefix[-1_000:])[-CONTEXT_TOKENS:] for q in queries]
    search_ms = sorted(timed(lambda q=q: reader.search(q, 3))[1] * 1_000 for q in queries)  # type: ignore[misc]
    draft_ms = sorted(timed(lambda c=c: reader.draft(c, DRAFT_TOKENS))[1] * 1_000 for c in contexts)  # type: ignore[misc]
    return {
        "open_s": open_s,
        "search_p50_ms": _at(search_ms, 0.5),
        "search_p95_ms": _at(search_ms, 0.95),
        "draft_p50_ms": _at(draft_ms, 0.5),
        "draft_p95_ms": _at(draft_ms, 0.95),
    }


def _query(subject: Subject) -> SearchQuery:
    file = subject.random.choice(subject.files)
    text = (subject.clone / file.path).read_text(encoding="utf-8")
    at = subject.random.randrange(len(text))
    return SearchQuery(prefix=text[:at], suffix=text[at:], path=file.path, language=file.language)


def pushes(subject: Subject) -> Row:
    """A push is committed before the clock starts."""
    return _spread("push", updates(subject, lambda: _committed(subject), PUSHES))


def hooked_pushes(subject: Subject, folder: Path) -> Row:
    """Through a git host, its signed hook, a watcher that fetches and a server: until that one has opened the index."""
    seconds = []
    with following(subject.clone, folder) as site:
        for _ in range(HOOKED_PUSHES):
            name = _committed(subject)
            time.sleep(REST_S)
            seconds.append(site.push())
            assert finds(IndexReader.open(site.index, subject.tokenizer), name), f"{name} is not in the new index"
    return _spread("hooked_push", seconds)


def _committed(subject: Subject) -> str:
    name = subject.write(subject.random.sample(subject.files, min(PUSHED_FILES, len(subject.files))))
    run_git(subject.clone, *_PERSON, "commit", "--quiet", "--all", "--message=Push")
    return name


def saves(subject: Subject, rounds: int) -> Row:
    """Not committed, and another file each time."""
    return _spread("save", updates(subject, lambda: subject.write([subject.random.choice(subject.files)]), rounds))


def updates(subject: Subject, change: Callable[[], str], rounds: int) -> list[float]:
    """Seconds from each change to the reader that finds it."""
    with subject.followed() as memory:
        reader = subject.opened(memory=memory)
        seconds = []
        for _ in range(rounds):
            name = change()
            started = time.perf_counter()
            reader = subject.opened(reader, memory)
            assert finds(reader, name), f"{name} is not in the new index"
            seconds.append(time.perf_counter() - started)
    return seconds


def watched(subject: Subject, rounds: int) -> Row:
    """Seconds from the write to the reader that finds it, through the events of the operating system."""
    with subject.followed() as memory:
        return _spread("watched_save", _watched(subject, memory, rounds))


def _watched(subject: Subject, memory: IndexMemory, rounds: int) -> list[float]:
    stop = threading.Event()
    published: queue.Queue[Path] = queue.Queue()

    def refresh() -> After:
        published.put(subject.index(memory).path)
        return After.DONE

    repo, reader = subject.index(memory).repo, subject.opened(memory=memory)
    thread = threading.Thread(target=watch, args=(repo, refresh, stop), daemon=True)
    thread.start()
    time.sleep(1)  # until it listens
    seconds = []
    for _ in range(rounds):
        started = time.perf_counter()
        name = subject.write([subject.random.choice(subject.files)])
        while not finds(reader, name):
            reader = IndexReader.open(published.get(timeout=_WAIT_S), subject.tokenizer, reader)
        seconds.append(time.perf_counter() - started)
    stop.set()
    thread.join()
    return seconds


def parsed_alone(subject: Subject, processes: int) -> tuple[float, float]:
    """Seconds that nothing but parsing takes, and of processor time: the medians of PARSES."""
    by_size = sorted(subject.files, key=lambda file: -file.size)
    groups = [by_size[number::processes] for number in range(processes)]
    context = multiprocessing.get_context("spawn")
    ready = context.Barrier(processes)
    with ProcessPoolExecutor(processes, context, _prepare, (ready,)) as pool:
        by_process = list(pool.map(_parse_all, [subject.clone] * processes, groups))
    rounds = list(zip(*by_process, strict=True))
    wall = [max(end for _, end, _ in spans) - min(start for start, _, _ in spans) for spans in rounds]
    return statistics.median(wall), statistics.median(sum(cpu_s for _, _, cpu_s in spans) for spans in rounds)


_ready: threading.Barrier


def _prepare(ready: threading.Barrier) -> None:
    """Once in each process of the pool."""
    global _ready
    _ready = ready


def _parse_all(clone: Path, files: Sequence[Source]) -> list[tuple[float, float, float]]:
    """PARSES times when it began and ended, on the clock that all processes share, and seconds of processor time."""
    loaded = [(_parser(file.language), (clone / file.path).read_bytes()) for file in files]
    return [_parse_once(loaded) for _ in range(PARSES)]


def _parse_once(loaded: Sequence[tuple[Callable[[bytes], object], bytes]]) -> tuple[float, float, float]:
    _ready.wait(_WAIT_S)  # also so that each process gets one group
    started, cpu_started = time.monotonic(), time.process_time()
    for parse_bytes, text in loaded:
        parse_bytes(text)
    return started, time.monotonic(), time.process_time() - cpu_started


def _parser(language: str) -> Callable[[bytes], object]:
    known = language_named(language)
    syntax = syntax_of(known) if known else None
    return syntax.parser.parse if syntax else len  # a language without a grammar: nothing to parse


@contextmanager
def peak_memory() -> Iterator[Callable[[], int]]:
    """Calls of what this yields tell the peak so far, in bytes."""
    peak, stop = 0, threading.Event()

    def look() -> None:
        nonlocal peak
        while not stop.wait(MEMORY_EVERY_S):
            peak = max(peak, resident_bytes(os.getpid()))

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield lambda: peak
    finally:
        stop.set()
        thread.join()


def resident_bytes(process: int) -> int:
    """Of a process and all those below it."""
    folder = Path(f"/proc/{process}")
    try:
        own = int((folder / "statm").read_text().split()[1]) * resource.getpagesize()
        children = [int(child) for task in folder.glob("task/*/children") for child in task.read_text().split()]
    except (OSError, IndexError):  # it has just ended
        return 0
    return own + sum(map(resident_bytes, children))


def timed(work: Callable[[], T]) -> tuple[T, float, float]:
    """With seconds, and seconds of processor time, in processes that ended meanwhile too."""
    wall, cpu = time.perf_counter(), _cpu_s()
    result = work()
    return result, time.perf_counter() - wall, _cpu_s() - cpu


def _cpu_s() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def apart(work: Callable[[Path, Path, Path, int], T], *args: object) -> T:
    """The result of `work` in a process of its own, so that ours doesn't grow by what it holds."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(work, *args).result()  # type: ignore[arg-type]


def copy_sources(source: Path, clone: Path, data: Path, scale: int) -> list[Source]:
    repo = open_repository(str(source), DataDir(data), timeout_s=60, progress=SilentProgress())
    written = []
    for file in source_files(repo, settings=Settings(), commit=repo.head):
        for number in range(scale):
            path = clone / (f"copy{number}/{file.path}" if scale > 1 else file.path)
            text = (salted(file.text, number) if number else file.text).encode()
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(text)
            written.append(Source(path.relative_to(clone).as_posix(), file.language, len(text)))
    for command in (("init", "--quiet"), ("add", "--all", "--force"), (*_PERSON, "commit", "--quiet", "--message=All")):
        run_git(clone, *command)
    return sorted(written, key=lambda file: file.path)


def salted(text: str, number: int) -> str:
    def renamed(match: re.Match[str]) -> str:
        name = match.group()
        return f"{name}{number}" if zlib.crc32(name.encode()) % 2 else name

    return _COMPOUND.sub(renamed, text)


def run_git(folder: Path, *command: str) -> None:
    subprocess.run(["git", *command], cwd=folder, check=True)


def size_of(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def print_table(results: dict[str, Row]) -> None:
    """A column a repository, since there are more measurements than a line has room for."""
    width = max(12, *map(len, results))
    print(f"{'':24}" + "".join(f"  {name:>{width}}" for name in results))
    for key in next(iter(results.values())):
        print(f"{key:24}" + "".join(f"  {_shown(row[key]):>{width}}" for row in results.values()))


def _shown(value: float) -> str:
    return f"{value:,.0f}" if value >= 1_000 else f"{value:.3g}"


def _spread(name: str, seconds: Sequence[float]) -> Row:
    return {f"{name}_s": statistics.median(seconds), f"{name}_max_s": max(seconds)}


def _at(ordered: Sequence[float], share: float) -> float:
    return ordered[int(len(ordered) * share)]


def _number(value: object) -> int:
    assert isinstance(value, int)
    return value


if __name__ == "__main__":
    main()
