"""The chart against checkov's policies: none is broken without a reason in deploy/helm/checkov.yaml."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deploy import tools
from tests.deploy.charts import CHART, EXAMPLES, one, template
from tests.deploy.test_helm import JOBS

pytestmark = pytest.mark.timeout(400)  # the first one installs it
CONFIG = CHART.parent / "checkov.yaml"
PLATFORM_CHOOSES_IDS = {"openshift-airgap.yaml": {"CKV_K8S_40"}}
"""OpenShift gives each namespace user ids of its own, above 1,000,000,000; the chart must name none."""


def checked(folder: Path) -> dict[str, Any]:
    words = ["-m", "checkov.main", "--config-file", str(CONFIG), "--directory", str(folder), "--output", "json"]
    done = subprocess.run([str(tools.python()), *words], cwd=folder, capture_output=True, text=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_no_policy_is_broken_without_a_reason(tmp_path: Path) -> None:
    for example in EXAMPLES:
        (tmp_path / example.name).write_text(template("--values", str(example)).stdout)
    job = json.loads(one("ConfigMap", "demo-homespun-trainer", *JOBS)["data"]["job.json"])
    job["metadata"]["name"] = job["metadata"].pop("generateName") + "1"
    (tmp_path / "job.yaml").write_text(yaml.safe_dump(job))
    found = checked(tmp_path)
    failed = [
        f"{each['check_id']} {each['check_name']}: {each['resource']} of {each['file_path']}"
        for each in found["results"]["failed_checks"]
        if each["check_id"] not in PLATFORM_CHOOSES_IDS.get(each["file_path"].lstrip("/"), ())
    ]
    assert failed == []
    assert found["summary"]["passed"] > 1_000 and found["summary"]["parsing_errors"] == 0


def test_a_chart_that_breaks_one_is_found_out(tmp_path: Path) -> None:
    words = ("--values", str(EXAMPLES[0]))
    (tmp_path / "a.yaml").write_text(template(*words).stdout.replace("readOnlyRootFilesystem: true", ""))
    assert {each["check_id"] for each in checked(tmp_path)["results"]["failed_checks"]} == {"CKV_K8S_22"}


def test_every_exception_has_its_reason() -> None:
    text = CONFIG.read_text()
    assert yaml.safe_load(text)["skip-check"]
    lines = text.splitlines()
    for number, line in enumerate(lines):
        if re.match(r"\s*- CKV", line):
            assert lines[number - 1].lstrip().startswith("#"), line
