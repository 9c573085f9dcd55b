"""From a chart that somebody may have installed to this one: no change that Kubernetes refuses, nothing lost."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deploy.charts import CHART, RELEASED, rendered, run, template, unpacked

PACKAGES = pytest.mark.parametrize("package", RELEASED, ids=lambda path: path.stem)
CHANGEABLE = {"replicas", "template", "updateStrategy", "minReadySeconds", "ordinals", "revisionHistoryLimit"}
"""Of a StatefulSet; the API server refuses changes of anything else in its spec."""


def test_a_chart_that_differs_from_a_released_one_has_another_version(tmp_path: Path) -> None:
    """What is installed anywhere as 0.1.0 is 0.1.0 for ever. To release: `helm package deploy/helm/homespun
    --destination tests/deploy/released`, and raise the version with the next change."""
    version = yaml.safe_load((CHART / "Chart.yaml").read_text())["version"]
    same = [package for package in RELEASED if package.stem == f"homespun-{version}"]
    for package in same:
        before = unpacked(package, tmp_path / package.stem)
        files = {path.relative_to(before): path.read_text() for path in before.rglob("*") if path.is_file()}
        del files[Path("Chart.yaml")]  # Helm writes it anew
        now = {path: (CHART / path).read_text() for path in files}
        assert files == now, f"raise the version in Chart.yaml: {package.name} is released"
    assert _numbers(version) >= max(_numbers(package.stem.rpartition("-")[2]) for package in RELEASED)


@PACKAGES
def test_values_that_were_fine_still_are(package: Path, tmp_path: Path) -> None:
    for example in _examples(package, tmp_path):
        done = template("--values", str(example))
        assert done.returncode == 0, (example.stem, done.stderr)


@PACKAGES
def test_an_upgrade_changes_nothing_that_cannot_change(package: Path, tmp_path: Path) -> None:
    for example in _examples(package, tmp_path):
        before = _by_name(rendered("--values", str(example), chart=package))
        after = _by_name(rendered("--values", str(example)))
        kept = before.keys() & after.keys()
        assert {kind for kind, _ in kept} >= {"Service", "NetworkPolicy"}
        for key in kept:
            assert _fixed(after[key]) == _fixed(before[key]), (example.stem, key)


@PACKAGES
def test_an_upgrade_takes_no_volume_and_no_name_that_clients_use(package: Path, tmp_path: Path) -> None:
    for example in _examples(package, tmp_path):
        before = _by_name(rendered("--values", str(example), chart=package))
        after = _by_name(rendered("--values", str(example)))
        lasting = {"PersistentVolumeClaim", "Service", "StatefulSet", "Deployment", "Ingress", "HTTPRoute"}
        assert {key for key in before if key[0] in lasting} <= after.keys(), example.stem


def test_a_changed_selector_would_be_found() -> None:
    old = {"kind": "StatefulSet", "spec": {"serviceName": "a", "selector": {"matchLabels": {"x": "1"}}, "replicas": 1}}
    new = {"kind": "StatefulSet", "spec": {"serviceName": "b", "selector": {"matchLabels": {"x": "1"}}, "replicas": 2}}
    assert _fixed(old) != _fixed(new)
    assert _fixed(old) == _fixed({**old, "spec": {**old["spec"], "replicas": 3}})  # type: ignore[dict-item]


@PACKAGES
def test_released_packages_are_charts_that_helm_takes(package: Path) -> None:
    done = run("show", "chart", str(package))
    assert done.returncode == 0 and yaml.safe_load(done.stdout)["name"] == "homespun"


def _fixed(o: dict[str, Any]) -> Any:
    """What may not change in an object that is there."""
    spec = o.get("spec", {})
    match o["kind"]:
        case "StatefulSet":
            return {key: value for key, value in spec.items() if key not in CHANGEABLE}
        case "Deployment":
            return spec["selector"]
        case "PersistentVolumeClaim":
            return {key: value for key, value in spec.items() if key != "resources"}
        case "Service":
            return spec.get("clusterIP")
        case "RoleBinding":
            return o["roleRef"]
        case _:
            return None


def _examples(package: Path, folder: Path) -> list[Path]:
    return sorted((unpacked(package, folder) / "examples").glob("*.yaml"))


def _by_name(objects: tuple[dict[str, Any], ...]) -> dict[tuple[str, str], dict[str, Any]]:
    return {(o["kind"], o["metadata"]["name"]): o for o in objects}


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")))
