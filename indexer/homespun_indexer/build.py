"""Segments built side by side, one process each; in this process when there is only one."""

from __future__ import annotations

import ctypes
import logging
import multiprocessing
import os
import resource
import signal
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing.sharedctypes import Synchronized
from pathlib import Path
from typing import Any

from homespun_core.errors import RepositoryError
from homespun_core.memory import available_bytes
from homespun_core.types import ModelFiles, Progress, Tokenizer
from homespun_indexer import files, layout, parse
from homespun_indexer.analysis import AnalysedFile, analyse
from homespun_indexer.cache import BlobCache
from homespun_indexer.embedders import NONE, embedded, load_embedder
from homespun_indexer.files import Candidate
from homespun_indexer.repository import Repository
from homespun_indexer.segment import IndexedFile, write_segment
from homespun_indexer.tokenizer import load_tokenizer

logger = logging.getLogger(__name__)

_PR_SET_PDEATHSIG = 1
_POLL_S = 0.1
_MAX_MEMORY = 6 << 30
"""Address space of a process that parses: far above what honest files need, far below what hurts the machine."""
_ENVIRONMENT_LOCK = threading.Lock()
_ENVIRONMENT = {
    # Large arrays are made and thrown away all the time: give their memory back to ourselves, not to the system.
    "MALLOC_MMAP_THRESHOLD_": str(1 << 32),
    "MALLOC_TRIM_THRESHOLD_": str(1 << 34),
    "TOKENIZERS_PARALLELISM": "false",
    "OMP_NUM_THREADS": "1",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A segment to build. `cache` is the file of the blob cache."""

    repo: Repository
    candidates: Sequence[Candidate]
    target: Path
    cache: Path
    embedder: str = NONE
    """The setting."""


def num_processes() -> int:
    return layout.affordable(len(os.sched_getaffinity(0)), available_bytes(), len(multiprocessing.active_children()))


def build_segments(
    jobs: Sequence[Job], tokenizer: Tokenizer, model: ModelFiles, progress: Progress
) -> list[list[IndexedFile]]:
    """Write every job's segment; returns their tables of files. `model` is where other processes find the tokenizer.

    Only what a developer saves or pulls is parsed in this process: parsers are native code, and a hostile file can
    crash one or have it eat all memory, so what comes from elsewhere is parsed where that does no harm.
    """
    total = sum(len(job.candidates) for job in jobs)
    progress.start("Reading and parsing", total=total, unit="files")
    is_ours = len(jobs) == 1 and jobs[0].repo.is_local
    tables = [_build(jobs[0], tokenizer, progress)] if is_ours else _build_apart(jobs, tokenizer, model, progress)
    progress.finish(f"{total:,} files")
    return tables


def _build_apart(
    jobs: Sequence[Job], tokenizer: Tokenizer, model: ModelFiles, progress: Progress
) -> list[list[IndexedFile]]:
    try:
        context = multiprocessing.get_context("spawn")  # fork doesn't go with threads, which we and our libraries have
        done: Synchronized[int] = context.Value("q", 0)
    except OSError as error:  # a machine without shared memory
        logger.warning("no processes beside this one (%s); indexing takes longer", error.strerror)
        return [_build(job, tokenizer, progress) for job in jobs]
    start = _Start(model, done, os.getpid(), _MAX_MEMORY)
    try:
        return _in_pool(jobs, start, progress)
    except BrokenProcessPool:
        logger.warning("%s: a process that parsed it was killed; its parts are tried one by one", jobs[0].repo.name)
        return [_build_alone(job, start, progress) for job in jobs]


def _build_alone(job: Job, start: _Start, progress: Progress) -> list[IndexedFile]:
    """A job that may be the one that killed its process: then once more without the parsers."""
    for attempt in (start, replace(start, as_lines=True)):
        job.target.unlink(missing_ok=True)
        try:
            return _in_pool([job], attempt, progress)[0]
        except BrokenProcessPool:
            logger.warning("%s: a file crashed its parser; that part is read as lines", job.repo.name)
    raise RepositoryError(
        f"{job.repo.identity}: a process that read it was killed, probably for want of memory; free some"
        " and run the same command again, finished work is kept"
    )


def _build(job: Job, tokenizer: Tokenizer, progress: Progress | _Counter) -> list[IndexedFile]:
    with BlobCache(job.cache) as cache:
        contents = files.read_contents(job.repo, job.candidates)
        embedder = load_embedder(job.embedder)
        embed = partial(embedded, embedder, cache) if embedder is not None else None
        return write_segment(job.target, _counted(analyse(contents, tokenizer, cache), progress), embed)


def _counted(analysed: Iterator[AnalysedFile], progress: Progress | _Counter) -> Iterator[AnalysedFile]:
    for done, file in enumerate(analysed, 1):
        yield file
        progress.advance(done)


class _Counter:
    """Tells the parent how many files are done, of all processes together."""

    def __init__(self, value: Synchronized[int]) -> None:
        self._value = value

    def advance(self, done: int) -> None:
        with self._value.get_lock():
            self._value.value += 1


@dataclass(frozen=True, slots=True)
class _Start:
    """What a process of the pool is started with."""

    model: ModelFiles
    done: Synchronized[int]
    parent: int
    max_memory: int
    as_lines: bool = False


def _in_pool(jobs: Sequence[Job], start: _Start, progress: Progress) -> list[list[IndexedFile]]:
    context = multiprocessing.get_context("spawn")
    arguments = (start.model, start.done, start.parent, start.max_memory, start.as_lines)
    with ExitStack() as stack:
        with _environment():  # one pool after the other, so that each counts the processes of those before
            width = min(num_processes(), len(jobs))
            pool = stack.enter_context(ProcessPoolExecutor(width, context, _prepare, arguments))
            futures = [pool.submit(_build_here, job) for job in jobs]
        processes = list(pool._processes.values())  # all of them are started by now
        try:
            _follow(futures, start.done, progress)
        except BaseException:  # Ctrl-C among them: what is begun is ended; the pool is broken then, and the rest isn't
            for process in processes:  # begun; leaving the block waits for the processes
                process.kill()
            raise
        return [future.result() for future in futures]


def _follow(futures: Sequence[Future[Any]], done: Synchronized[int], progress: Progress) -> None:
    """Raises the first error at once."""
    pending = set(futures)
    while pending:
        finished, pending = wait(pending, _POLL_S, FIRST_COMPLETED)
        progress.advance(done.value)
        for future in finished:
            future.result()


@contextmanager
def _environment() -> Iterator[None]:
    """For processes started in the block: memory allocators read it once, when a process begins."""
    with _ENVIRONMENT_LOCK:
        before = {name: os.environ.get(name) for name in _ENVIRONMENT}
        os.environ.update(_ENVIRONMENT)
        try:
            yield
        finally:
            for name, value in before.items():
                if value is None:
                    os.environ.pop(name, None)
                else:
                    os.environ[name] = value


_tokenizer: Tokenizer
_counter: _Counter


def _prepare(model: ModelFiles, done: Synchronized[int], parent: int, max_memory: int, as_lines: bool) -> None:
    """Once in each process of the pool."""
    global _tokenizer, _counter
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)  # no orphans, even after kill -9
    if os.getppid() != parent:  # it was killed before we could ask for that
        os._exit(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent is told, too, and ends us
    os.umask(0o077)
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    if hard == resource.RLIM_INFINITY or hard > max_memory:
        resource.setrlimit(resource.RLIMIT_AS, (max_memory, hard))
    if as_lines:
        parse.read_as_lines()
    _tokenizer, _counter = load_tokenizer(model), _Counter(done)


def _build_here(job: Job) -> list[IndexedFile]:
    return _build(job, _tokenizer, _counter)
