"""The gateway's image, built from the Dockerfile and run with a read-only root, without Docker."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.deploy.containers import container, image
from tests.server.engine.vllm.fake_server import FakeVllm


@pytest.fixture(scope="module", autouse=True)
def ordinary_umask() -> Iterator[None]:
    """Tests that call the command in this process leave it at 077, and an image made so is its builder's alone."""
    before = os.umask(0o022)
    yield
    os.umask(before)


pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]
_OWN, _OPENSHIFT = 10001, 1000690000
"""The user of the image, and one that OpenShift makes up."""


def _said(work: Path, uid: int, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(container("gateway", work, uid, *words), capture_output=True, text=True)


@pytest.mark.parametrize("uid", [_OWN, _OPENSHIFT])
def test_the_command_runs_as_anybody_on_a_read_only_root(uid: int, tmp_path: Path) -> None:
    done = _said(tmp_path, uid, "--version")
    assert (done.returncode, done.stdout.split()[:1]) == (0, ["homespun"]), done.stderr


def test_the_image_says_who_runs_it_and_has_a_name_for_them() -> None:
    made = image("gateway") / "bundle"
    user = json.loads((made / "config.json").read_text())["process"]["user"]
    assert (user["uid"], user["gid"]) == (_OWN, 0)
    assert f"homespun:x:{_OWN}:0:" in (made / "rootfs/etc/passwd").read_text()


def test_the_image_has_no_compiler_no_pip_no_pytorch_and_is_small() -> None:
    root = image("gateway") / "bundle/rootfs"
    programs = {path.name for folder in ("usr/bin", "opt/homespun/bin") for path in (root / folder).iterdir()}
    assert not {"gcc", "g++", "cc", "c++", "as", "ld"} & programs
    packages = {path.name for path in root.glob("opt/homespun/lib/python3*/site-packages/*")}
    assert "homespun_server" in packages and not {"torch", "transformers", "pip"} & packages
    num_bytes = sum(path.lstat().st_size for path in root.rglob("*") if path.is_file() and not path.is_symlink())
    assert num_bytes < 800_000_000


def test_the_kernels_of_the_image_were_compiled() -> None:
    assert list(image("gateway").glob("bundle/rootfs/opt/homespun/**/native/kernels-portable.so"))


@contextlib.contextmanager
def _serving(work: Path, uid: int, vllm: FakeVllm) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A gateway in the image, and its address."""
    words = ("serve", "--host=127.0.0.1", "--port=0", f"--vllm-urls={vllm.url}")
    process = subprocess.Popen(
        container("gateway", work, uid, *words), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert process.stdout is not None
    try:
        lines: list[str] = []
        for line in process.stdout:
            lines.append(line)
            if line.startswith("homespun is ready: "):
                yield process, line.split()[-1]
                return
        raise AssertionError("".join(lines))
    finally:
        _end(process)


def _end(runtime: subprocess.Popen[str]) -> None:
    """The container with it: killing a runtime leaves its container running."""
    if runtime.poll() is None:
        for child in Path(f"/proc/{runtime.pid}/task/{runtime.pid}/children").read_text().split():
            os.kill(int(child), signal.SIGKILL)
    runtime.communicate()


@pytest.fixture
def vllm() -> Iterator[FakeVllm]:
    fake = FakeVllm()
    fake.max_context = 2048
    yield fake
    fake.kill()


@pytest.mark.parametrize("uid", [_OWN, _OPENSHIFT])
def test_the_gateway_completes_as_anybody_and_ends_in_order(uid: int, tmp_path: Path, vllm: FakeVllm) -> None:
    body = json.dumps({"prompt": "def add(a, b):\n    return", "max_tokens": 8}).encode()
    with _serving(tmp_path, uid, vllm) as (process, url):
        asked = urllib.request.Request(f"{url}/v1/completions", body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(asked, timeout=60) as response:
            assert json.load(response)["choices"][0]["text"]
        assert any((tmp_path / "data").iterdir())
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
