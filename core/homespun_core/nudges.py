"""Nudges: somebody says that a repository was pushed to. Whoever fetches looks whether that is so.

A nudge is a file that changes; it says nothing but that. Any number of readers each remember the stamp they acted on,
so one that comes while its reader works leads to another look, many lead to one, and one that nobody reads is harmless.
"""

from __future__ import annotations

import time

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
