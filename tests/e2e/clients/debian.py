"""Editors out of Debian packages, unpacked into a folder and run with the C library they were built for."""

from __future__ import annotations

import hashlib
import json
import platform
import shutil
import subprocess
from functools import cache
from pathlib import Path

import pytest

from tests.e2e.clients.downloads import fetched, kept

_MIRRORS = ("http://deb.debian.org/debian", "http://snapshot.debian.org/archive/debian/20261128T000000Z")
"""The second keeps what the first replaces."""
LIBRARIES = "usr/lib/x86_64-linux-gnu"


@cache
def unpacked(name: str) -> Path:
    """The root of an unpacked entry of debian.json; skips where its packages can't be had or run."""
    if platform.machine() != "x86_64" or platform.system() != "Linux":
        pytest.skip(f"{name}: its packages are pinned for Linux on x86-64, this is {platform.machine()}")
    if not shutil.which("dpkg-deb"):
        pytest.skip(f"{name}: unpacking it needs dpkg-deb")
    pins = json.loads(Path(__file__).with_name("debian.json").read_text())[name]
    digest = hashlib.sha256(json.dumps(pins).encode()).hexdigest()[:12]
    return kept(f"{name}-{digest}", lambda folder: _unpack(pins, folder))


def command(root: Path, program: str) -> list[str]:
    """The machine's own C library may be older than what the program needs."""
    libraries = root / LIBRARIES
    return [str(libraries / "ld-linux-x86-64.so.2"), "--library-path", str(libraries), str(root / program)]


def _unpack(pins: list[dict[str, str]], folder: Path) -> None:
    for pin in pins:
        package = folder / "package.deb"
        package.write_bytes(fetched((f"{mirror}/{pin['path']}" for mirror in _MIRRORS), pin["sha256"]))
        subprocess.run(["dpkg-deb", "-x", package, folder], check=True)
        package.unlink()
