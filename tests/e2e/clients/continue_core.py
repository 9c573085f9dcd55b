"""Continue's autocomplete core out of npm, bundled with just what it imports: its package brings a browser, a database
and the clients of three clouds besides."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import subprocess
import tarfile
from functools import cache
from pathlib import Path

from tests.e2e.clients import node
from tests.e2e.clients.downloads import fetched, kept

_PROJECT = Path(__file__).parent / "continue"
_CORE = "https://registry.npmjs.org/@continuedev/core/-/core-1.1.0.tgz"
_CORE_SHA256 = "fa414a6627ce6b68788efb01ecbd66347f24b879e466c9de02b5132269e0ae97"
_REQUIRE = """import * as bundledModule from "node:module"; import * as bundledUrl from "node:url";
const require = bundledModule.createRequire(import.meta.url), __filename = bundledUrl.fileURLToPath(import.meta.url);
const __dirname = bundledUrl.fileURLToPath(new URL(".", import.meta.url));"""
"""Some of its dependencies are of CommonJS."""


def completed(url: str, prefix: str, suffix: str, home: Path) -> dict[str, str | None]:
    """What it would show, by the kind of provider it was asked through. `home` is where it keeps its things."""
    words = [str(node.NODE), str(_bundle() / "continue.mjs"), url, prefix, suffix]
    environ = {**node.environ(), "HOME": str(home), "CONTINUE_GLOBAL_DIR": str(home)}
    done = subprocess.run(words, env=environ, capture_output=True, text=True, timeout=90, check=False)
    assert done.returncode == 0, done.stderr
    said: dict[str, str | None] = json.loads(done.stdout.splitlines()[-1])
    return said


@cache
def _bundle() -> Path:
    sources = b"".join((_PROJECT / name).read_bytes() for name in ("continue.mjs", "unneeded.mjs"))
    packages = node.installed(_PROJECT)
    name = f"{packages.name}-bundle-{hashlib.sha256(sources + (_CORE_SHA256 + _REQUIRE).encode()).hexdigest()[:12]}"
    return kept(name, lambda folder: _build(packages / "node_modules", folder))


def _build(modules: Path, folder: Path) -> None:
    """The core is put beside a copy of the sources, and everything else is found in `modules`."""
    with tarfile.open(fileobj=io.BytesIO(fetched([_CORE], _CORE_SHA256))) as archive:
        archive.extractall(folder / "work/node_modules/@continuedev", filter="data")
    (folder / "work/node_modules/@continuedev/package").rename(folder / "work/node_modules/@continuedev/core")
    for name in ("continue.mjs", "unneeded.mjs"):
        shutil.copy(_PROJECT / name, folder / "work")
    words = [str(modules / ".bin/esbuild"), "continue.mjs", "--bundle", "--platform=node", "--format=esm"]
    words += [f"--outfile={folder}/continue.mjs", "--log-level=error", "--external:jsdom", f"--banner:js={_REQUIRE}"]
    words += [f"--alias:{name}=./unneeded.mjs" for name in ("sqlite", "sqlite3", "posthog-node")]
    environ = {**node.environ(), "NODE_PATH": str(modules)}
    subprocess.run(words, cwd=folder / "work", env=environ, check=True)
    shutil.copy(modules / "web-tree-sitter/tree-sitter.wasm", folder)
    shutil.rmtree(folder / "work")
