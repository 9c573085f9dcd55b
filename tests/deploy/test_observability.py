"""Alert rules and dashboard: Prometheus' own tool takes them, and every metric they name is one that the server has."""

from __future__ import annotations

import json
import re
import runpy
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from homespun_server.metrics import Metrics
from tests.e2e.clients.downloads import fetched, kept

FOLDER = Path(__file__).parents[2] / "deploy" / "observability"
_PACKAGE = "pool/main/p/prometheus/prometheus_2.42.0+ds-5+deb12u1_amd64.deb"
_SHA256 = "81d59a24fce84f7fbe97a45a4f2914b6a5881b5cd1db2a6a0e129e515e1a5f55"
_MIRRORS = ("http://deb.debian.org/debian", "http://snapshot.debian.org/archive/debian/20261128T000000Z")


@pytest.fixture(scope="session")
def promtool() -> Path:
    if not shutil.which("dpkg-deb"):
        pytest.skip("promtool comes in a Debian package, and there is no dpkg-deb")
    return kept(f"promtool-{_SHA256[:12]}", _unpack) / "usr/bin/promtool"


def _unpack(folder: Path) -> None:
    package = folder / "prometheus.deb"
    package.write_bytes(fetched((f"{mirror}/{_PACKAGE}" for mirror in _MIRRORS), _SHA256))
    subprocess.run(["dpkg-deb", "-x", package, folder], check=True)
    package.unlink()


@pytest.mark.parametrize("words", [["check", "rules", "alerts.yaml"], ["test", "rules", "alerts_test.yaml"]])
def test_prometheus_takes_the_rules_and_they_fire_when_they_should(promtool: Path, words: list[str]) -> None:
    done = subprocess.run([promtool, *words], cwd=FOLDER, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_prometheus_takes_our_metrics(promtool: Path) -> None:
    done = subprocess.run([promtool, "check", "metrics"], input=Metrics().exposition(), capture_output=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", ["alerts.yaml", "dashboard.json"])
def test_every_metric_that_is_named_exists(name: str) -> None:
    exposed = set(re.findall(r"^# TYPE (\w+)", Metrics().exposition().decode(), re.MULTILINE))
    named = set(re.findall(r"\bhomespun_\w+", (FOLDER / name).read_text()))
    assert {metric.removesuffix("_bucket") for metric in named} <= exposed and named


def test_the_dashboard_shows_every_metric() -> None:
    exposed = set(re.findall(r"^# TYPE (\w+)", Metrics().exposition().decode(), re.MULTILINE))
    named = {
        name.removesuffix("_bucket") for name in re.findall(r"\bhomespun_\w+", (FOLDER / "dashboard.json").read_text())
    }
    assert {name for name in exposed - named if not name.endswith("_created")} == {"homespun_build_info"}


def test_every_alert_fires_in_a_test_and_stays_silent_in_one() -> None:
    rules = yaml.safe_load((FOLDER / "alerts.yaml").read_text())["groups"]
    cases = yaml.safe_load((FOLDER / "alerts_test.yaml").read_text())["tests"]
    tried = {(one["alertname"], bool(one["exp_alerts"])) for case in cases for one in case["alert_rule_test"]}
    assert tried == {(rule["alert"], fires) for group in rules for rule in group["rules"] for fires in (True, False)}


def test_the_dashboard_is_what_its_script_makes() -> None:
    made = runpy.run_path(str(FOLDER / "dashboard.py"))["dashboard"]()
    assert json.loads((FOLDER / "dashboard.json").read_text()) == made
