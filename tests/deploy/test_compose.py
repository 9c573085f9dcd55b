"""compose.yaml against the compose specification, and brought up by podman-compose where images are built."""

from __future__ import annotations

import re
import secrets
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import podman_compose
import pytest
import yaml

from tests.deploy.containers import ROOT, alone, builder, command, image
from tests.repos import SHOP, make_repo

COMPOSE = ROOT / "deploy/docker/compose.yaml"


def _checked(path: Path) -> subprocess.CompletedProcess[str]:
    words = ["-m", "check_jsonschema", "--builtin-schema=vendor.compose-spec", str(path)]
    return subprocess.run([sys.executable, *words], capture_output=True, text=True)


def test_the_compose_file_is_what_the_specification_allows(tmp_path: Path) -> None:
    assert (done := _checked(COMPOSE)).returncode == 0, done.stdout
    wrong = tmp_path / "compose.yaml"
    wrong.write_text(COMPOSE.read_text().replace("read_only:", "readonly:"))
    assert _checked(wrong).returncode == 1


def test_the_service_is_as_locked_up_as_the_images_test_it() -> None:
    done = _config("x" * 24)
    assert done.returncode == 0, done.stderr
    (service,) = yaml.safe_load(done.stdout)["services"].values()
    assert service["read_only"] and service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert all(port.startswith("127.0.0.1:") for port in service["ports"])
    assert service["build"]["target"] in re.findall(r" AS (\w+)$", _dockerfile(), re.MULTILINE)
    assert all(re.search(rf"^ARG {name}\b", _dockerfile(), re.MULTILINE) for name in service["build"]["args"])


def _dockerfile() -> str:
    return (COMPOSE.parent / "Dockerfile").read_text()


def _config(token: str) -> subprocess.CompletedProcess[str]:
    """What podman-compose makes of it."""
    script = (
        f"export PYTHONPATH=/site HOMESPUN_API_TOKEN={token}; python3 -m podman_compose -f /docker/compose.yaml config"
    )
    return _ran(script, {"/docker": COMPOSE.parent})


def _ran(script: str, mounts: dict[str, Path]) -> subprocess.CompletedProcess[str]:
    site = {"/site": Path(podman_compose.__file__).parent}
    words = alone(command(builder(), script, mounts=mounts | site))
    return subprocess.run(words, capture_output=True, text=True)


def test_without_a_token_nothing_comes_up() -> None:
    assert (refused := _config("")).returncode != 0
    assert "HOMESPUN_API_TOKEN" in refused.stderr and "openssl rand" in refused.stderr


_UP = """
cd /project; export PYTHONPATH=/site
trap 'podman rm --all --force >/dev/null; podman volume rm --all --force >/dev/null; podman rmi --force homespun' EXIT
podman tag "$(podman pull --quiet oci:/image/oci:cpu)" homespun
compose='python3 -m podman_compose --file compose.yaml --file repo.yaml'
$compose up --detach --no-build
name=$($compose ps --quiet)
until podman logs $name 2>&1 | grep -q 'shop: 4 files'; do podman exec $name true; sleep 1; done
podman healthcheck run $name
python3 -c "$ASK"
podman exec $name sh -c 'id --user; touch /x 2>&1 || grep -E "CapEff|NoNewPrivs" /proc/1/status'
$compose down
podman ps --all --format '{{.Names}} is left'
"""
_ASK = """
import json, os, time, urllib.error, urllib.request
headers = {"Content-Type": "application/json", "Authorization": "Bearer " + os.environ["HOMESPUN_API_TOKEN"]}
body = json.dumps({"prompt": "def add(a, b):", "max_tokens": 8}).encode()
while True:
    try:
        asked = urllib.request.Request("http://127.0.0.1:8080/v1/completions", body, headers)
        print("completed:", json.load(urllib.request.urlopen(asked))["choices"])
        break
    except urllib.error.HTTPError as error:
        if error.code != 503:  # it trains, too
            raise
        time.sleep(1)
"""


@pytest.mark.images
@pytest.mark.timeout(1800)
def test_what_the_compose_file_says_comes_up_completes_and_goes_down(tmp_path: Path) -> None:
    made = image("cpu")
    shutil.copy(COMPOSE, tmp_path)
    make_repo(tmp_path / "repo", SHOP)
    (tmp_path / "homespun.toml").write_text('[[repository]]\nsource = "/repo"\nname = "shop"\n')
    (tmp_path / "repo.yaml").write_text('services: {homespun: {volumes: ["./repo:/repo:ro"]}}\n')
    subprocess.run(["chmod", "-R", "a+rX", tmp_path], check=True)
    settings = f"export HOMESPUN_API_TOKEN={secrets.token_hex(24)} ASK={shlex.quote(_ASK)}"
    done = _ran(f"{settings}\n{_UP}", {"/project": tmp_path, "/image": made})
    assert done.returncode == 0, done.stdout + done.stderr
    assert "completed: [{" in done.stdout and "is left" not in done.stdout
    assert re.search(r"^10001\ntouch: .*Read-only.*\nCapEff:\s0+\nNoNewPrivs:\s1$", done.stdout, re.MULTILINE)
