"""The image with the engine and PyTorch, built from the Dockerfile and run as compose.yaml runs it, without Docker."""

from __future__ import annotations

import json
import signal
import subprocess
import urllib.request
from pathlib import Path

import pytest

from tests.deploy.containers import container, image
from tests.deploy.running import OPENSHIFT, OWN, said, serving
from tests.repos import SHOP, make_repo

pytestmark = [pytest.mark.images, pytest.mark.timeout(1800)]
BODY = json.dumps({"prompt": "def add(a, b):\n    return", "max_tokens": 8}).encode()


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    """Of another user than the container's, as a checkout on the host is."""
    made = make_repo(tmp_path / "repo", SHOP)
    subprocess.run(["chmod", "-R", "a+rX", made], check=True)
    return made


@pytest.mark.parametrize("uid", [OWN, OPENSHIFT])
def test_a_repository_is_indexed_and_completed_as_anybody_on_a_read_only_root(
    uid: int, tmp_path: Path, repo: Path
) -> None:
    indexed = said("cpu", tmp_path, uid, "index", "/repo", repo=repo)
    assert indexed.returncode == 0, indexed.stdout + indexed.stderr
    assert list((tmp_path / "data/index").iterdir())
    with serving(container("cpu", tmp_path, uid, "serve", "--host=127.0.0.1", "--port=0")) as (process, url):
        asked = urllib.request.Request(f"{url}/v1/completions", BODY, {"Content-Type": "application/json"})
        with urllib.request.urlopen(asked, timeout=120) as response:
            assert json.load(response)["choices"][0]["text"]
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0


def test_the_image_trains(tmp_path: Path, repo: Path) -> None:
    trained = said("cpu", tmp_path, OWN, "train", "/repo", "--train-minutes=0.1", repo=repo)
    assert trained.returncode == 0, trained.stdout + trained.stderr


def test_the_image_has_pytorch_for_cpus_the_kernels_and_no_compiler() -> None:
    root = image("cpu") / "bundle/rootfs"
    (packages,) = root.glob("opt/homespun/lib/python3*/site-packages")
    names = {path.name for path in packages.iterdir()}
    assert any(name.startswith("torch-") and name.endswith("+cpu.dist-info") for name in names)
    assert not any(name.startswith(("nvidia", "triton")) for name in names) and "pip" not in names
    assert list(packages.glob("**/native/kernels-portable.so"))
    assert not {"gcc", "g++", "c++", "ld"} & {path.name for path in (root / "usr/bin").iterdir()}
