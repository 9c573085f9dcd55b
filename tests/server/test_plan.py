"""The arithmetic of capacity: what must hold of it, and its command."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homespun_core.cli import main
from homespun_core.config import SETTINGS
from homespun_server.plan.capacity import Assumptions, Gpu, Model, Origin, plan

ROOT = Path(__file__).parents[2]

SMALL = Model(parameters=1.54e9, layers=28, kv_heads=2, head_size=128)
LARGE = Model(parameters=7.62e9, layers=28, kv_heads=4, head_size=128)
L40S, H100 = Gpu(tflops=362, gb_per_s=864, gb=48), Gpu(tflops=989, gb_per_s=3350, gb=80)


def test_the_figures_of_one_plan_by_hand() -> None:
    assumed = Assumptions(prompt_tokens=1000, new_share=0.5, completion_tokens=10, longest_ms=1.0)
    made = plan(1000, SMALL, L40S, assumed)
    prefill = 2 * 1.54e9 * 500 / (362e12 * 0.4)
    kept = 1005 * 2 * 28 * 2 * 128 * 2
    alone = prefill + 10 * (3.08e9 + kept) / (864e9 * 0.7)
    together = prefill * made.together + 10 * (3.08e9 + made.together * kept) / (864e9 * 0.7)
    assert made.completion_ms == pytest.approx(together * 1e3) and together <= 1.5 * alone
    assert made.requests_per_s == pytest.approx(1000 * 0.15 * 0.87)
    assert made.per_gpu_per_s == pytest.approx(0.6 * made.together / together)
    assert made.gpus == -(-made.requests_per_s // made.per_gpu_per_s) and not made.is_quick


@given(st.integers(1, 20_000), st.sampled_from([SMALL, LARGE]), st.sampled_from([L40S, H100]))
def test_the_planned_machines_are_enough_and_one_fewer_is_not(developers: int, model: Model, gpu: Gpu) -> None:
    made = plan(developers, model, gpu, Assumptions())
    assert made.gpus * made.per_gpu_per_s >= made.requests_per_s * 0.999999
    assert (made.gpus - 1) * made.per_gpu_per_s < made.requests_per_s


@given(st.integers(1, 20_000), st.floats(0.05, 0.9), st.floats(0.1, 3))
def test_more_work_never_needs_fewer_machines(developers: int, new_share: float, rate: float) -> None:
    less = Assumptions(new_share=new_share, requests_per_s=rate)
    more = Assumptions(new_share=min(1, new_share * 1.1), requests_per_s=rate * 1.1)
    assert plan(developers, LARGE, L40S, less).gpus <= plan(developers, LARGE, L40S, more).gpus
    assert plan(developers, LARGE, L40S, less).gpus <= plan(developers + 100, LARGE, L40S, less).gpus
    assert plan(developers, SMALL, L40S, less).gpus <= plan(developers, LARGE, L40S, less).gpus
    assert plan(developers, LARGE, H100, less).gpus <= plan(developers, LARGE, L40S, less).gpus


def test_what_is_too_large_or_too_slow_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "--developers", "100", "--model", "qwen2.5-coder-14b", "--gpu", "l4"]) == 0
    said = capsys.readouterr().out
    assert "DOES NOT FIT" in said and "MORE THAN 400" in said
    assert main(["plan", "--developers", "100", "--model", "qwen2.5-coder-1.5b", "--gpu", "h100", "--json"]) == 0
    (made,) = json.loads(capsys.readouterr().out)["plans"]
    assert made["fits"] and made["is_quick"] and made["gpus"] == 1


def test_index_database_and_watcher_by_hand() -> None:
    assumed = Assumptions(lines_per_developer=2e3, pushes_per_hour=2, index_s=0.5, feedback_days=10, outcome_bytes=100)
    made = plan(1000, SMALL, L40S, assumed)
    assert made.index_gb == pytest.approx(1000 * 2_000 * 61 / 1e9)
    assert made.watcher_busy == pytest.approx(1000 * 2 * 0.5 / 3600)
    assert made.database_gb == pytest.approx(1000 * 2 * 3600 * 0.87 * 10 * 100 / 1e9)


def test_several_sizes_at_once_and_every_assumption_says_where_it_is_from(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "--developers", "100,1000,10000", "--index-s", "0.7"]) == 0
    said = capsys.readouterr().out
    assert all(f"{number} developers" in said for number in ("100", "1,000", "10,000"))
    for field in dataclasses.fields(Assumptions):
        (line,) = [line for line in said.splitlines() if line.startswith(f"  {field.name.replace('_', '-')} ")]
        assert ("[given]" in line) == (field.name == "index_s")
        assert field.metadata["origin"] in get_args(Origin) and field.metadata["where"]


def test_the_table_in_the_documentation_is_what_the_plan_says(capsys: pytest.CaptureFixture[str]) -> None:
    text = (ROOT / "deploy" / "README.md").read_text(encoding="utf-8")
    head, _, *rows = re.findall(r"^\|.*\|$", text[text.index("| `homespun plan --model") :], re.MULTILINE)[:8]
    (words,) = re.findall(r"`homespun (.+?)`", head)
    assert main([*words.split(), "--developers", "100,1000,10000", "--json"]) == 0
    plans = json.loads(capsys.readouterr().out)["plans"]
    said = [
        [f"{made['requests_per_s']:,.0f}" for made in plans],
        [f"{made['gpus']:,}" for made in plans],
        [f"{made['gateway_cores']:,}" for made in plans],
        [f"{made['index_gb']:,.1f}" for made in plans],
        [f"{made['watcher_busy'] * 100:.0f} %" for made in plans],
        [f"{made['database_gb']:,.0f}" for made in plans],
    ]
    assert [[cell.strip() for cell in row.split("|")[2:-1]] for row in rows] == said


@pytest.mark.parametrize("field", dataclasses.fields(Assumptions), ids=lambda field: field.name)
def test_what_is_called_a_measurement_or_a_setting_is_one(field: dataclasses.Field[Any]) -> None:
    where = field.metadata["where"]
    if field.metadata["origin"] == "measured":
        day, script = re.fullmatch(r"(\d{4}-\d\d-\d\d), (\w+\.py).*", where).groups()  # type: ignore[union-attr]
        entries = re.split(r"^## ", (ROOT / "benchmarks" / "LOG.md").read_text(encoding="utf-8"), flags=re.MULTILINE)
        assert any(entry.startswith(day) and script in entry for entry in entries), where
    if field.metadata["origin"] == "setting":
        assert field.default == SETTINGS[where].default


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--developers", "0"], "--developers 0"),
        (["--developers", "10,x"], "--developers 10,x"),
        (["--developers", "9", "--gpu", "l40"], "l40s"),
        (["--developers", "9", "--model", "gpt-9"], "gpt-9"),
        (["--developers", "9", "--most-busy", "1.5"], "--most-busy 1.5"),
        (["--developers", "9", "--requests-per-s", "0"], "--requests-per-s 0"),
    ],
)
def test_nonsense_is_one_line(words: list[str], named: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", *words]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert named in line
