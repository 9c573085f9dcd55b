"""The gateway's image, built from the Dockerfile and run with a read-only root, without Docker."""

from __future__ import annotations

import json
import signal
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.deploy.containers import ROOT, base, builder, container, image, inside
from tests.deploy.running import OPENSHIFT, OWN, said, serving
from tests.server.engine.vllm.fake_server import FakeVllm

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]


@pytest.mark.parametrize("uid", [OWN, OPENSHIFT])
def test_the_command_runs_as_anybody_on_a_read_only_root(uid: int, tmp_path: Path) -> None:
    done = said("gateway", tmp_path, uid, "--version")
    assert (done.returncode, done.stdout.split()[:1]) == (0, ["homespun"]), done.stderr


def test_the_image_says_who_runs_it_and_has_a_name_for_them() -> None:
    made = image("gateway") / "bundle"
    user = json.loads((made / "config.json").read_text())["process"]["user"]
    assert (user["uid"], user["gid"]) == (OWN, 0)
    assert f"homespun:x:{OWN}:0:" in (made / "rootfs/etc/passwd").read_text()


def test_the_image_has_what_backs_postgresql_up(tmp_path: Path) -> None:
    command, config = container("gateway", tmp_path, OWN), tmp_path / "bundle/config.json"
    asked = json.loads(config.read_text())
    for program in ("pg_dump", "pg_restore"):
        asked["process"]["args"] = [program, "--version"]
        config.write_text(json.dumps(asked))
        done = subprocess.run(command, capture_output=True, text=True)
        assert (done.returncode, done.stdout.split()[:1]) == (0, [program]), done.stderr


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


@pytest.fixture
def vllm() -> Iterator[FakeVllm]:
    fake = FakeVllm()
    fake.max_context = 2048
    yield fake
    fake.kill()


@pytest.mark.parametrize("uid", [OWN, OPENSHIFT])
def test_the_gateway_completes_as_anybody_and_ends_in_order(uid: int, tmp_path: Path, vllm: FakeVllm) -> None:
    body = json.dumps({"prompt": "def add(a, b):\n    return", "max_tokens": 8}).encode()
    words = ("serve", "--host=127.0.0.1", "--port=0", f"--vllm-urls={vllm.url}")
    with serving(container("gateway", tmp_path, uid, *words)) as (process, url):
        asked = urllib.request.Request(f"{url}/v1/completions", body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(asked, timeout=60) as response:
            assert json.load(response)["choices"][0]["text"]
        assert any((tmp_path / "data").iterdir())
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0


def test_the_base_image_of_a_digest_is_used_or_nothing_is_built() -> None:
    other = f"{base().partition('@')[0]}@sha256:{'0' * 64}"
    script = f"""cd /src
if buildah bud --quiet --pull-never --build-arg PYTHON_IMAGE={other} --target gateway \\
    --file deploy/docker/Dockerfile . 2>&1; then exit 1; fi"""
    refused = inside(builder(), script, mounts={"/src": ROOT})
    assert other in refused.stdout, refused.stdout
