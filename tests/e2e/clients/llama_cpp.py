"""llama.cpp's own server out of Debian packages, with the built-in model."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import homespun_base_model
from tests.e2e.clients.debian import LIBRARIES, unpacked

_ROOT = Path(__file__).parents[3]


@contextmanager
def llama_server(folder: Path, port: int) -> Iterator[str]:
    """Its address, once it answers. Skips where its packages can't be had or run."""
    root = unpacked("llama.cpp")
    libraries = root / LIBRARIES
    model = _model(folder)
    argv = [
        str(libraries / "ld-linux-x86-64.so.2"),
        "--library-path",
        f"{libraries}:{libraries / 'llama'}",
        str(root / "usr/bin/llama-server"),
        *("--model", str(model), "--port", str(port), "--ctx-size", "2048", "--threads", "2", "--no-webui"),
    ]
    # It looks for the parts that compute where Debian installs them; this one runs on every machine.
    environ = os.environ | {"GGML_BACKEND_PATH": str(libraries / "ggml/backends0/libggml-cpu-x64.so")}
    with (folder / "llama-server.log").open("wb") as log:
        process = subprocess.Popen(argv, env=environ, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        url = f"http://127.0.0.1:{port}"
        _wait_until_healthy(url, process, folder / "llama-server.log")
        yield url
    finally:
        process.kill()
        process.wait()


def _model(folder: Path) -> Path:
    source, out = Path(homespun_base_model.__file__).parent, folder / "homespun.gguf"
    subprocess.run([sys.executable, _ROOT / "benchmarks/latency_gguf.py", source, out, "--named"], check=True)
    return out


def _wait_until_healthy(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            with urllib.request.urlopen(f"{url}/health", timeout=5):
                return
        except OSError:
            assert process.poll() is None and time.monotonic() < deadline, log.read_text(errors="replace")[-2_000:]
            time.sleep(0.1)
