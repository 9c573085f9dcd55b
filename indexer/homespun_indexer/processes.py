"""Processes that parse: parsers are native code, and a few kilobytes can crash one or have it eat all memory, so files
are parsed where that does no harm and can be ended at any moment."""

from __future__ import annotations

import ctypes
import logging
import multiprocessing
import os
import resource
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from contextlib import contextmanager
from multiprocessing import connection
from multiprocessing.sharedctypes import Synchronized
from typing import Any, Generic, Self, TypeVar

from homespun_core.memory import available_bytes
from homespun_core.types import ModelFiles, Progress, Tokenizer
from homespun_indexer import layout, parse
from homespun_indexer.tokenizer import load_tokenizer

logger = logging.getLogger(__name__)

Job = TypeVar("Job")
Result = TypeVar("Result")

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


class NoSharedMemory(OSError):
    """The machine has none, so processes can't say how far they are."""


class Counter:
    """Tells the parent how many files are done, of all processes together."""

    def __init__(self, value: Synchronized[int]) -> None:
        self._value = value

    def advance(self, done: int) -> None:
        with self._value.get_lock():
            self._value.value += 1


Work = Callable[[Job, Tokenizer, Counter], Result]
"""A function that other processes can import."""


def num_processes() -> int:
    return layout.affordable(len(os.sched_getaffinity(0)), available_bytes(), len(multiprocessing.active_children()))


class Processes(Generic[Job, Result]):
    """One for each job, or as many as the machine has room for. They begin to load what they need at once, and die with
    the block, with this process, and with the thread that started them.

    Raises NoSharedMemory.
    """

    def __init__(
        self, work: Work[Job, Result], model: ModelFiles, num_jobs: int = 1, *, as_lines: bool = False
    ) -> None:
        """`model` is where they find the tokenizer; with `as_lines` they don't parse."""
        self.model = model
        try:
            context = multiprocessing.get_context("spawn")  # fork doesn't go with threads, which our libraries have
            self._done: Synchronized[int] = context.Value("q", 0)
        except OSError as error:
            raise NoSharedMemory(error.errno, error.strerror) from error
        arguments = (work, model, self._done, os.getpid(), _MAX_MEMORY, as_lines)
        with _inherited():  # one after the other, so that each counts the processes of those before
            width = min(num_processes(), num_jobs)
            self._pool = ProcessPoolExecutor(width, context, _prepare, arguments)
            for _ in range(width):  # each starts one
                self._pool.submit(_nothing)
        self._processes = list(self._pool._processes.values())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Not waited for, even when all went well: they have written everything, and end more slowly by themselves."""
        for process in self._processes:
            process.kill()
        self._pool.shutdown()

    def run(self, jobs: Sequence[Job], progress: Progress) -> list[Result]:
        """Raises the first error at once, and BrokenProcessPool when one of them is killed."""
        with self._done.get_lock():
            self._done.value = 0
        futures = [self._pool.submit(_call, job) for job in jobs]
        pending: set[Future[Result]] = set(futures)
        while pending:
            finished, pending = wait(pending, _POLL_S, FIRST_COMPLETED)
            progress.advance(self._done.value)
            for future in finished:
                future.result()
        return [future.result() for future in futures]

    @property
    def are_alive(self) -> bool:
        """By their sentinels: `is_alive` is wrong for a moment when the pool has waited for one that died."""
        return not connection.wait([process.sentinel for process in self._processes], timeout=0)


class Spare(Generic[Job, Result]):
    """A process for the next save or push: to start one and load what it needs takes longer than the work itself.

    Each is for one repository, its owner, so what one did to a process is never met by another. Whoever was the last
    keeps it; beside that, one waits for whoever comes next. Whoever waits for work has that one made.
    """

    def __init__(self, work: Work[Job, Result]) -> None:
        self._work, self._lock = work, threading.Lock()
        self._waiting: Processes[Job, Result] | None = None
        self._kept: tuple[str, Processes[Job, Result]] | None = None
        self._owners: set[str] = set()

    @contextmanager
    def lent(self, model: ModelFiles, owner: str) -> Iterator[Processes[Job, Result]]:
        """Its own, the one that waits, or another. It ends with an error of the block. Raises NoSharedMemory."""
        processes = self._taken(model, owner) or Processes(self._work, model)
        try:
            yield processes
        except BaseException:
            processes.close()
            raise
        self._keep(owner, processes)

    def renew(self, model: ModelFiles, owner: str) -> None:
        """To be called by a thread that lives on. Doesn't wait until the process is ready."""
        with self._lock:
            self._owners.add(owner)
            if self._waiting is not None and self._waiting.are_alive:
                return
            _close(self._waiting)  # it was killed, or with its thread
            self._waiting = None
            is_served = self._kept is not None and self._kept[1].are_alive and self._owners == {self._kept[0]}
            if is_served:
                return
            try:
                self._waiting = Processes(self._work, model)
            except OSError as error:  # the next save or push starts its own, or says why not
                logger.debug("no process that waits: %s", error)

    def close(self) -> None:
        with self._lock:
            _close(self._waiting)
            _close(self._kept[1] if self._kept else None)
            self._waiting = self._kept = None

    def _taken(self, model: ModelFiles, owner: str) -> Processes[Job, Result] | None:
        """None where there is none, or none that loaded this model."""
        with self._lock:
            if self._kept is not None and self._kept[0] == owner:
                (_, own), self._kept = self._kept, None
                if (found := _if_fit(own, model)) is not None:
                    return found
            waiting, self._waiting = self._waiting, None
            return _if_fit(waiting, model)

    def _keep(self, owner: str, processes: Processes[Job, Result]) -> None:
        with self._lock:
            before, self._kept = self._kept, (owner, processes)
        _close(before[1] if before else None)


def _if_fit(processes: Processes[Job, Result] | None, model: ModelFiles) -> Processes[Job, Result] | None:
    """Closed otherwise."""
    if processes is not None and processes.model == model and processes.are_alive:
        return processes
    _close(processes)
    return None


def _close(processes: Processes[Job, Result] | None) -> None:
    if processes is not None:
        processes.close()


@contextmanager
def _inherited() -> Iterator[None]:
    """What processes started in the block begin with: memory allocators read the environment once, and Ctrl-C, of which
    the parent is told as well, mustn't end one while it loads."""
    with _ENVIRONMENT_LOCK:
        before = {name: os.environ.get(name) for name in _ENVIRONMENT}
        os.environ.update(_ENVIRONMENT)
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            yield
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
            for name, value in before.items():
                if value is None:
                    os.environ.pop(name, None)
                else:
                    os.environ[name] = value


_work: Work[Any, Any]
_tokenizer: Tokenizer
_counter: Counter


def _prepare(
    work: Work[Any, Any], model: ModelFiles, done: Synchronized[int], parent: int, max_memory: int, as_lines: bool
) -> None:
    """Once in each process."""
    global _work, _tokenizer, _counter
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
    _work, _tokenizer, _counter = work, load_tokenizer(model), Counter(done)


def _nothing() -> None:
    """Done when the process is ready."""


def _call(job: Any) -> Any:
    return _work(job, _tokenizer, _counter)
