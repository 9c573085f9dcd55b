"""Examples of each size have room for what `homespun plan` says."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml

from homespun_core.cli import main
from homespun_core.config import SETTINGS
from homespun_server.plan.capacity import Assumptions
from homespun_trainer.sizing import _RANKS
from tests.deploy.charts import CHART, EXAMPLES

TYPISTS_A_CORE = 10
"""With the built-in model: twenty on two cores were measured."""
SIZES = [example for example in EXAMPLES if "`homespun plan" in example.read_text()]


def test_there_are_six_sizes_and_a_platform() -> None:
    assert len(SIZES) == 6 and [e.stem for e in EXAMPLES if e not in SIZES] == ["openshift-airgap"]


@pytest.mark.parametrize("example", SIZES, ids=lambda path: path.stem)
def test_an_example_has_room_for_what_the_plan_says(example: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = example.read_text()
    (words,) = re.findall(r"`homespun (plan --developers \d+.*?)`", text)
    values = yaml.safe_load(text)
    days = values.get("settings", {}).get("feedback_days", SETTINGS["feedback_days"].default)
    assert main([*words.split(), "--feedback-days", str(days), "--json"]) == 0
    (made,) = json.loads(capsys.readouterr().out)["plans"]
    asked = made["requests_per_s"]
    assert (f" {asked:.0f} " if asked >= 1 else f" {asked:.2g} ") in text.replace("# ", "").replace("\n", " ")
    assert made["watcher_busy"] < 1 and made["database_gb"] < 200
    if values.get("mode") == "cluster":
        vllm = values["vllm"]
        assert made["fits"] and made["is_quick"]
        assert vllm.get("replicas", vllm.get("keda", {}).get("maxReplicas")) >= made["gpus"] + 1
        assert values["gateway"]["autoscaling"]["maxReplicas"] >= made["gateway_cores"] + 1  # a core each
    elif "gpu" in values["server"]:
        assert made["fits"] and made["is_quick"] and values["server"]["gpu"] >= made["gpus"]
    else:
        cpu = str(values["server"]["resources"]["requests"]["cpu"])
        cores = int(cpu[:-1]) / 1000 if cpu.endswith("m") else int(cpu)
        assert cores * TYPISTS_A_CORE * Assumptions().requests_per_s >= asked


def test_vllm_has_room_for_the_largest_adapter_that_training_chooses() -> None:
    values = yaml.safe_load((CHART / "values.yaml").read_text())["vllm"]
    assert values["maxLoraRank"] >= max(_RANKS)
    assert (values["maxLoraRank"], values["maxLoras"]) == (Assumptions().adapter_rank, Assumptions().adapters)
