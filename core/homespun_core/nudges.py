"""Nudges: somebody says that a repository was pushed to. Whoever fetches looks whether that is so.

A nudge is a file that changes; it says nothing but that. Any number of readers each remember the stamp they acted on,
so one that comes while its reader works leads to another look, many lead to one, and one that nobody reads is harmless.
"""

from __future__ import annotations

import fcntl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from homespun_core.paths import DataDir
from homespun_core.storage import write_atomic


def nudge(data: DataDir, repo: str) -> None:
    write_atomic(data.nudge(repo), f"{time.time():.3f}\n")


def stamp(data: DataDir, repo: str) -> tuple[int, int] | None:
    """Changes with every nudge; None before the first."""
    try:
        found = data.nudge(repo).stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns


@contextmanager
def reading(data: DataDir, repo: str) -> Iterator[None]:
    """While in this block, nudges about a repository are read; others may read them too."""
    path = _reading(data, repo)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as handle:
        fcntl.flock(handle, fcntl.LOCK_SH)
        yield


def is_read(data: DataDir, repo: str) -> bool:
    """Whether somebody reads nudges about a repository now; whoever dies doesn't any more."""
    try:
        with _reading(data, repo).open("r") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def _reading(data: DataDir, repo: str) -> Path:
    return data.locks / f"nudges-{repo}.lock"
