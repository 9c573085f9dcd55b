"""The chart in Helm 4's engine: the same objects, and the same refusals, as in Helm 3."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deploy import tools
from tests.deploy.charts import CHART, EXAMPLES, rendered
from tests.deploy.test_helm import BAD

pytestmark = pytest.mark.timeout(400)  # the first one installs it


def helm4(wanted: list[dict[str, Any]]) -> list[dict[str, Any]]:
    words = [str(tools.python()), "-I", str(Path(tools.__file__).parent / "helm4.py"), str(CHART)]
    done = subprocess.run(words, input=json.dumps(wanted), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    made: list[dict[str, Any]] = json.loads(done.stdout)
    return made


def test_it_renders_every_example_as_helm_3_does() -> None:
    made = helm4([{"files": [str(example)], "set": []} for example in EXAMPLES])
    for example, found in zip(EXAMPLES, made, strict=True):
        assert _by_name(_objects(found)) == _by_name(rendered("--values", str(example))), example.stem


def test_it_refuses_every_bad_value_by_name() -> None:
    made = helm4([{"files": [], "set": ["existingSecret=secret", values[0]]} for values, _ in BAD])
    for (values, named), found in zip(BAD, made, strict=True):
        leaf = named.rpartition(".")[2]  # Helm 4 writes paths with slashes
        assert leaf in found.get("problem", ""), (values, found)


def test_the_notes_say_where_to_go_what_is_needed_and_what_is_unsafe() -> None:
    examples = {example.stem: example for example in EXAMPLES}
    wanted = [examples["company-1000"], examples["company-5000"], examples["laptop-cluster"]]
    made = helm4([{"files": [str(example)], "set": ["service.port=80"]} for example in wanted])
    company, largest, laptop = (found["objects"]["homespun/templates/NOTES.txt"] for found in made)
    assert "https://homespun.example.com" in company and "database-url" in company and "WARNING" not in company
    assert "needs the key database-url (PostgreSQL), and vllm-token, and worker-token" in largest
    assert "port-forward service/demo-homespun" in laptop and laptop.count("WARNING") == 2  # a made-up token, no volume


def test_the_notes_warn_where_prometheus_is_let_in_nowhere() -> None:
    words = ["existingSecret=secret", "monitoring.serviceMonitor=true"]
    closed = [*words, "networkPolicy.from[0].podSelector.matchLabels.app=ingress"]
    let_in = [*closed, "networkPolicy.scrapeFrom[0].podSelector.matchLabels.app=prometheus"]
    cluster = [*words, "mode=cluster", "persistence.accessMode=ReadWriteMany", "settings.base_model=/data/models/base"]
    made = helm4([{"files": [], "set": each} for each in (words, closed, let_in, cluster)])
    told = [found["objects"]["homespun/templates/NOTES.txt"].count("scrapeFrom is empty") for found in made]
    assert told == [0, 1, 0, 1]


def _objects(found: dict[str, Any]) -> list[dict[str, Any]]:
    texts = [text for name, text in found["objects"].items() if not name.endswith("NOTES.txt")]
    return [o for text in texts for o in yaml.safe_load_all(text) if o]


def _by_name(objects: Any) -> dict[tuple[str, str], str]:
    """Without a secret that is made up in each rendering, and the checksum that it is part of."""
    texts = {(o["kind"], o["metadata"]["name"]): json.dumps(o | {"stringData": 0}, sort_keys=True) for o in objects}
    return {name: re.sub('"checksum/config": "[0-9a-f]{64}"', "", text) for name, text in texts.items()}
