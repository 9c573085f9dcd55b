"""A mitigation in the threat model names the module that does it or the test that holds it to it, and that is there."""

from __future__ import annotations

import re
from pathlib import Path

from docs import markdown

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/security/threat-model.md"
TEXT = PAGE.read_text()


def rows(anchor: str) -> list[str]:
    lines = [line for line in markdown.section(TEXT, anchor).splitlines() if line.startswith("| ")]
    return lines[1:]


def test_the_top_ten_are_all_there_in_order() -> None:
    named = [row.split()[1] for row in rows("the-owasp-top-10-for-llm-applications-2026")]
    assert named == [f"LLM{number:02}" for number in range(1, 11)]


def test_every_mitigation_names_a_file_or_says_that_there_is_nothing_to_mitigate() -> None:
    claims = [
        row
        for anchor in ("where-trust-ends", "the-owasp-top-10-for-llm-applications-2026", "what-else-was-thought-of")
        for row in rows(anchor)
    ]
    assert len(claims) > 25
    assert [row for row in claims if "](../../" not in row and "none:" not in row] == []


def test_the_files_are_there_and_tests_have_tests() -> None:
    paths = [PAGE.parent / path for path in re.findall(r"\]\((\.\./\.\./[^)#]+)", TEXT)]
    assert [path for path in paths if not path.is_file()] == []
    tests = [path for path in paths if path.name.startswith("test_")]
    assert [path.name for path in tests if "def test_" not in path.read_text()] == []


def test_a_link_has_the_name_of_its_file() -> None:
    links = re.findall(r"\[([\w.]+\.(?:py|toml|txt))\]\(([^)#]+)", TEXT)
    assert links and [name for name, path in links if Path(path).name != name] == []


def test_what_is_left_is_said() -> None:
    assert len(re.findall(r"^- ", markdown.section(TEXT, "what-is-left"), re.MULTILINE)) >= 8
