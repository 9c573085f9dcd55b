"""The Dockerfile and what it copies; and the check of `helm test`, against a real server."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.deploy.charts import CHART
from tests.server.test_process import serving

ROOT = Path(__file__).parents[2]
DOCKERFILE = ROOT / "deploy" / "docker" / "Dockerfile"
TOKEN = "a-token-of-the-test"


def test_hadolint_finds_nothing_to_complain_about() -> None:
    program = shutil.which("hadolint", path=str(Path(sys.executable).parent))
    assert program is not None
    done = subprocess.run([program, str(DOCKERFILE)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_the_image_gets_all_that_it_is_built_from_and_nothing_else() -> None:
    lines = re.findall(r"^COPY (?!--from)(.+) \S+$", DOCKERFILE.read_text(), re.MULTILINE)
    copied = {word for line in lines for word in line.split()}
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert copied == allowed
    assert all((ROOT / name).exists() for name in copied)


def test_the_extras_that_the_image_installs_exist() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    named = {name for found in re.findall(r"homespun\[(.+?)\]", DOCKERFILE.read_text()) for name in found.split(",")}
    assert named <= set(extras)


def test_the_gateway_needs_no_pytorch() -> None:
    program = """
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "transformers", "peft", "accelerate"):
            raise ModuleNotFoundError(name=name)
sys.meta_path.insert(0, Absent())
import homespun_server.app, homespun_server.cli, homespun_server.engine.vllm.engine, homespun_server.runtime
"""
    subprocess.run([sys.executable, "-c", program], check=True)


def _checked(url: str, outside: str) -> subprocess.CompletedProcess[str]:
    environ = os.environ | {"SERVER": url, "TOKEN": TOKEN, "OUTSIDE": outside}
    program = (CHART / "files" / "check.py").read_text()
    return subprocess.run([sys.executable, "-I", "-c", program], env=environ, capture_output=True, text=True)


def test_the_check_of_helm_test_completes_is_denied_and_tells_an_open_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOMESPUN_API_TOKEN", TOKEN)
    with serving(tmp_path, "--port", "0") as server:
        url = server.wait_until_ready()
        closed, opened = _checked(url, "127.0.0.1:9"), _checked(url, url.removeprefix("http://"))
    assert closed.returncode == 0 and closed.stdout.startswith("ok")
    assert opened.returncode == 1 and "doesn't enforce" in opened.stdout


def test_the_check_of_helm_test_fails_where_everybody_gets_in(tmp_path: Path) -> None:
    with serving(tmp_path, "--port", "0") as server:
        done = _checked(server.wait_until_ready(), "127.0.0.1:9")
    assert done.returncode == 1 and "status 200, not 401" in done.stdout
