"""Real editors for tests: downloaded once, checked against pinned digests, kept in the user's cache outside the tree.

Where a download can't be reached the test is skipped, and pytest's summary says what is missing.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

_CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "homespun-tests"
_TIMEOUT_S = 20


class Unreachable(Exception):
    """No source answered."""


def kept(name: str, make: Callable[[Path], None]) -> Path:
    """A folder of the cache, filled by the first test process that needs it; skips the test if that can't be done.

    `name` must change with what is in the folder. A process that is killed meanwhile leaves nothing behind that counts.
    """
    _CACHE.mkdir(parents=True, exist_ok=True)
    target = _CACHE / name
    with (_CACHE / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not target.exists():
            with TemporaryDirectory(dir=_CACHE) as folder:
                made = Path(folder, "made")
                made.mkdir()
                try:
                    make(made)
                except Unreachable as error:
                    pytest.skip(f"{name}: {error}")
                made.rename(target)
    return target


def fetched(urls: Iterable[str], sha256: str) -> bytes:
    """From the first address that has it. Raises Unreachable; other content than the pinned is an error."""
    problem = "no address"
    for url in urls:
        try:
            with urllib.request.urlopen(url, timeout=_TIMEOUT_S) as response:
                content: bytes = response.read()
        except (urllib.error.URLError, TimeoutError, ConnectionError) as error:
            problem = f"{url} can't be downloaded ({error})"
            continue
        found = hashlib.sha256(content).hexdigest()
        assert found == sha256, f"{url}: digest {found}, pinned is {sha256}"
        return content
    raise Unreachable(problem)
