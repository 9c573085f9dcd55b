"""Headless Chromium from npm, which needs nothing of the machine but its C library."""

from __future__ import annotations

import subprocess
from functools import cache
from pathlib import Path

from tests.e2e.clients import node
from tests.e2e.clients.downloads import kept

PROJECT = Path(__file__).parent / "web"
"""Its packages have the browser beside the editor."""
FLAGS = ["--no-sandbox", "--disable-gpu", "--single-process", "--no-zygote", "--headless=shell"]
"""As @sparticuz/chromium is built to be run, on pages of our own that load nothing."""
_UNPACK = "import('@sparticuz/chromium').then((module) => module.default.executablePath())"
_WITH_LIBRARIES = {"AWS_EXECUTION_ENV": "AWS_Lambda_nodejs22.x"}
"""There it unpacks the libraries too that Chromium needs; on other machines it counts on them being installed."""
_WRAPPER = '#!/bin/sh\nhere=$(dirname "$0")\nLD_LIBRARY_PATH="$here/al2023/lib" exec "$here/chromium" "$@"\n'


@cache
def chromium() -> Path:
    """The program to give to Playwright."""
    packages = node.installed(PROJECT)
    return kept(f"browser-{packages.name}", lambda folder: _unpack(packages, folder)) / "run"


def _unpack(packages: Path, folder: Path) -> None:
    environ = {**node.environ(), **_WITH_LIBRARIES, "TMPDIR": str(folder)}
    subprocess.run([node.NODE, "-e", _UNPACK], cwd=packages, env=environ, check=True)
    assert (folder / "chromium").exists() and (folder / "al2023/lib").exists()
    (folder / "run").write_text(_WRAPPER)
    (folder / "run").chmod(0o755)
