"""The gateway's image, built from the Dockerfile and run with a read-only root, without Docker."""

from __future__ import annotations

import contextlib
import json
import re
import signal
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.deploy.containers import container, image

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
def _serving(work: Path, uid: int) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A server in the image before a vLLM that isn't there, and its address."""
    words = ("serve", "--host=127.0.0.1", "--port=0", "--vllm-urls=http://127.0.0.1:9")
    process = subprocess.Popen(
        container("gateway", work, uid, *words), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert process.stdout is not None
    try:
        lines: list[str] = []
        for line in process.stdout:
            lines.append(line)
            if found := re.search(r"listens on (http://\S+\d)", line):
                yield process, found.group(1)
                return
        raise AssertionError("".join(lines))
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("uid", [_OWN, _OPENSHIFT])
def test_the_gateway_starts_as_anybody_and_ends_in_order(uid: int, tmp_path: Path) -> None:
    with _serving(tmp_path, uid) as (process, url):
        with urllib.request.urlopen(f"{url}/healthz", timeout=30) as response:
            assert response.status == 200
        assert any((tmp_path / "data").iterdir())
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
