"""What stands in a report and its manifest stands in the card."""

from __future__ import annotations

from typing import Any

import pytest

from homespun_core.model_card import render
from homespun_core.storage import Manifest

CHANGE = {"value": -0.05, "low": -0.07, "high": -0.03}
ONE = {"languages": {"go": 40, "sql": 2}, "skipped": {"generated": 7}, "redactions": {"email address": 3}}
TWO = {"languages": {"sql": 50}, "skipped": {"generated": 1, "vendored": 4}, "redactions": {}}
SHARED = {"corpora": {"a-1": {"name": "a", "report": ONE}, "b-1": {"name": "b", "report": TWO}}}


def card(report: dict[str, Any], **sources: str) -> list[str]:
    manifest = Manifest(kind="adapter", format_version=1, fingerprint="f", sources={"base_model": "b", **sources})
    return render("v1", manifest, report, {}).splitlines()


def section(lines: list[str], title: str) -> list[str]:
    """Its rows, without the two of its head."""
    rest = lines[lines.index(f"## {title}") + 4 :]
    return rest[: [*rest, ""].index("")]


def test_what_it_was_trained_on_top_of_stands_in_the_card() -> None:
    """A list of parents was dropped where only single values were looked for."""
    lines = card({"training": {"steps": 3, "parents": [{"name": "v0", "digest": "abc"}]}}, on_top_of="shop-1/v0")
    assert section(lines, "Trained on top of, digest") == ["| v0 | abc |"]
    assert "| served on top of | shop-1/v0 |" in lines


@pytest.mark.parametrize(
    ("report", "languages", "left_out"),
    [
        ({"corpus_report": ONE}, ["| go | 40 |", "| sql | 2 |"], ["| generated | 7 |"]),
        (SHARED, ["| sql | 52 |", "| go | 40 |"], ["| generated | 8 |", "| vendored | 4 |"]),
    ],
)
def test_what_went_in_and_what_did_not_stands_in_the_card(
    report: dict[str, Any], languages: list[str], left_out: list[str]
) -> None:
    lines = card(report)
    assert section(lines, "Learned from, files") == languages
    assert section(lines, "Left out of the corpus, files") == left_out
    assert section(lines, "Replaced in the corpus, places") == ["| email address | 3 |"]


def test_what_it_did_to_other_code_stands_in_the_card_with_what_was_not_tested() -> None:
    found = [{"library": "Go's standard library", "places": 160, "base": 1.1, "change": CHANGE}]
    lines = card({"general": found, "untested": ["sql"]})
    assert section(lines, "Other code") == [
        "| Go's standard library | 160 | 1.100 | -0.050 [-0.070, -0.030] |",
        "| sql | not tested: no such library on this machine |  |  |",
    ]


@pytest.mark.parametrize("general", [None, {"places": 160, "base": 1.1, "change": CHANGE}])
def test_a_report_of_before_has_a_card_too(general: object) -> None:
    lines = card({"general": general, "training": {"steps": 3}})
    assert "| steps | 3 |" in lines and "## Other code" not in lines
