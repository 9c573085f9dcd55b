"""Packages of npm, as their lock file pins them. Node is the one in Playwright's wheel, npm is downloaded."""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import subprocess
import tarfile
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from playwright._impl._driver import compute_driver_executable

from tests.e2e.clients.downloads import Unreachable, fetched, kept

_NPM = "https://registry.npmjs.org/npm/-/npm-12.2.2.tgz"
_NPM_SHA256 = "07fecbf753e2c3bc10ebeb3e9ed8738f6a0cc1292998b79e2e9f1dd2a5525e0c"
_NO_NETWORK = ("ENOTFOUND", "ECONNREFUSED", "ECONNRESET", "ETIMEDOUT", "EAI_AGAIN", "ERR_SOCKET_TIMEOUT", "ENETUNREACH")
NODE = Path(compute_driver_executable()[0])


def environ() -> Mapping[str, str]:
    """What scripts of packages need in order to find node; npm's own cache stays where the user has it."""
    return os.environ | {"PATH": f"{NODE.parent}{os.pathsep}{os.environ['PATH']}"}


@cache
def npm() -> list[str]:
    folder = kept(f"npm-{_NPM_SHA256[:12]}", _unpack_npm)
    return [str(NODE), str(folder / "package/bin/npm-cli.js")]


@cache
def installed(project: Path) -> Path:
    """A copy of `project` (its package.json and lock file) with its node_modules, no script of which was run."""
    lock = project / "package-lock.json"
    digest = hashlib.sha256(lock.read_bytes()).hexdigest()[:12]
    npm_command = npm()  # before the lock on the folder is taken
    return kept(f"{project.name}-{digest}", lambda folder: _install(project, folder, npm_command))


def _npm(folder: Path, npm_command: list[str], *words: str) -> None:
    """What the lock file in `folder` says. Raises Unreachable."""
    command = [*npm_command, *words, "--ignore-scripts", "--no-audit", "--no-fund"]
    result = subprocess.run(command, cwd=folder, env=environ(), capture_output=True, text=True, check=False)
    if any(f"npm error code {code}" in result.stderr for code in _NO_NETWORK):
        told = [line for line in result.stderr.splitlines() if line.startswith("npm error")]
        raise Unreachable(f"npm's registry can't be reached ({'; '.join(told[:3])})")
    assert result.returncode == 0, result.stderr


def _install(project: Path, folder: Path, npm_command: list[str]) -> None:
    for name in ("package.json", "package-lock.json"):
        shutil.copy(project / name, folder)
    _npm(folder, npm_command, "ci")
    for inner in folder.glob("node_modules/*/lib/*/npm-shrinkwrap.json"):  # VS Code within code-server
        # Not `ci`: their lock file lacks one package, and that is an error to it.
        _npm(inner.parent, npm_command, "install", "--omit=dev", "--omit=optional")


def _unpack_npm(folder: Path) -> None:
    with tarfile.open(fileobj=io.BytesIO(fetched([_NPM], _NPM_SHA256))) as archive:
        archive.extractall(folder, filter="data")
