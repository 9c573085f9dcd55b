"""Fences: a process that works under a lease publishes only while no later lease about the same was given.

Whoever gives a lease writes its number beside what is published, before the worker hears of it. Whoever publishes under
a lease looks there, and holds the fence in place until it is done: so it comes before the next lease, or not at all. A
process without a lease (a person's) isn't asked.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from homespun_core.errors import StorageError

FENCE = "FENCE"
LEASE_HELP = "publish only while no later lease was given (a worker says which this is)"
_PATIENCE_S = 5.0


@dataclass(frozen=True, slots=True)
class Lease:
    kind: str
    number: int

    def line(self) -> bytes:
        """Always as long: one write replaces it, so that a crash leaves the old or the new one."""
        return f"{self.kind:<16} {self.number:020}\n".encode()


class _Process:
    """What this process works under is a fact about all of it, like its working directory."""

    lease: Lease | None = None


def work_under(lease: Lease | None) -> None:
    """What this process publishes from now on is published under that lease."""
    _Process.lease = lease


def raise_fence(folder: Path, lease: Lease) -> None:
    """Nothing is published in `folder` under an earlier lease once this returns. Raises StorageError when somebody is
    publishing there, and doesn't end."""
    folder.mkdir(parents=True, exist_ok=True)
    fd = os.open(folder / FENCE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        _lock(fd, folder)
        before = _read(fd)
        if before is None or before.kind != lease.kind or before.number < lease.number:
            os.pwrite(fd, lease.line(), 0)
            os.fsync(fd)
    finally:
        os.close(fd)


@contextmanager
def passing(folder: Path) -> Iterator[None]:
    """To publish in `folder` in this block. Raises StorageError when a later lease was given."""
    lease = _Process.lease
    try:
        fd = os.open(folder / FENCE, os.O_RDONLY | os.O_CLOEXEC) if lease else None
    except FileNotFoundError:
        fd = None
    if fd is None or lease is None:
        yield
        return
    try:
        fcntl.flock(fd, fcntl.LOCK_SH)
        _check(folder, _read(fd), lease)
        yield
    finally:
        os.close(fd)


def _check(folder: Path, fence: Lease | None, lease: Lease) -> None:
    if fence is None:
        raise StorageError(f"{folder / FENCE}: unreadable, so nothing is published; the next job writes it anew")
    if fence.kind == lease.kind and fence.number > lease.number:
        raise StorageError(f"{folder}: another worker has taken this over, so what was made here is not published")


def _read(fd: int) -> Lease | None:
    try:
        kind, number = os.pread(fd, 64, 0).decode().split()
        return Lease(kind, int(number))
    except (ValueError, UnicodeDecodeError):
        return None


def _lock(fd: int, folder: Path) -> None:
    deadline = time.monotonic() + _PATIENCE_S
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise StorageError(f"{folder}: somebody has been publishing for {_PATIENCE_S:.0f} s") from None
            time.sleep(0.02)
