"""Segments built side by side, one process each; in this process when there is only one."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from multiprocessing.sharedctypes import Synchronized
from pathlib import Path
from typing import Any

from homespun_core.errors import RepositoryError
from homespun_core.types import ModelFiles, Progress, Tokenizer
from homespun_indexer import files
from homespun_indexer.analysis import AnalysedFile, analyse
from homespun_indexer.cache import BlobCache
from homespun_indexer.embedders import NONE, embedded, load_embedder
from homespun_indexer.files import Candidate
from homespun_indexer.repository import Repository
from homespun_indexer.segment import IndexedFile, write_segment
from homespun_indexer.tokenizer import load_tokenizer

_MAX_PROCESSES = 16
_PR_SET_PDEATHSIG = 1
_POLL_S = 0.1
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
    return min(_MAX_PROCESSES, len(os.sched_getaffinity(0)))


def build_segments(
    jobs: Sequence[Job], tokenizer: Tokenizer, model: ModelFiles, progress: Progress
) -> list[list[IndexedFile]]:
    """Write every job's segment; returns their tables of files. `model` is where other processes find the tokenizer."""
    total = sum(len(job.candidates) for job in jobs)
    progress.start("Reading and parsing", total=total, unit="files")
    tables = _build_all(jobs, model, progress) if len(jobs) > 1 else [_build(jobs[0], tokenizer, progress)]
    progress.finish(f"{total:,} files")
    return tables


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


def _build_all(jobs: Sequence[Job], model: ModelFiles, progress: Progress) -> list[list[IndexedFile]]:
    context = multiprocessing.get_context("spawn")  # fork doesn't go with threads, which we and our libraries have
    done: Synchronized[int] = context.Value("q", 0)
    with _environment(), ProcessPoolExecutor(min(num_processes(), len(jobs)), context, _prepare, (model, done)) as pool:
        futures = [pool.submit(_build_here, job) for job in jobs]
        processes = list(pool._processes.values())  # all of them are started by now
        try:
            _follow(futures, done, progress)
        except BrokenProcessPool as error:
            raise RepositoryError(
                f"{jobs[0].repo.identity}: a process that read it was killed, probably for want of memory; free some"
                " and run the same command again, finished work is kept"
            ) from error
        except (
            BaseException
        ):  # Ctrl-C among them: what is begun is ended, and with that the pool is broken and the rest
            for process in processes:  # isn't begun; leaving the block waits for the processes
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


def _prepare(model: ModelFiles, done: Synchronized[int]) -> None:
    """Once in each process of the pool."""
    global _tokenizer, _counter
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)  # no orphans, even after kill -9
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent is told, too, and ends us
    os.umask(0o077)
    _tokenizer, _counter = load_tokenizer(model), _Counter(done)


def _build_here(job: Job) -> list[IndexedFile]:
    return _build(job, _tokenizer, _counter)
