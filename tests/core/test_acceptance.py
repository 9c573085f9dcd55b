from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from homespun_core import acceptance
from homespun_core.outcomes import Reception
from homespun_core.paths import DataDir

WEEK = 7 * 86_400.0
NOW = 2_000 * WEEK
ONE = Reception(time=NOW, repository="shop-1", language="python", shown=3, accepted=2)


def weeks(lately: tuple[int, int], before: tuple[int, int]) -> acceptance.Weeks:
    return {acceptance.week_of(NOW - WEEK): lately, acceptance.week_of(NOW - 3 * WEEK): before}


@pytest.mark.parametrize(
    ("lately", "before", "is_fall"),
    [
        ((1_000, 200), (2_000, 600), True),
        ((1_000, 290), (2_000, 600), False),  # less, and no more than people vary
        ((250, 57), (250, 75), False),  # a quarter less, which may be chance
        ((1_000, 400), (2_000, 600), False),
        ((100, 0), (2_000, 600), None),
        ((1_000, 200), (100, 90), None),
    ],
)
def test_less_is_accepted_when_it_is_much_and_surely_less(
    lately: tuple[int, int], before: tuple[int, int], is_fall: bool | None
) -> None:
    found = acceptance.change(weeks(lately, before), NOW)
    assert (found.is_fall if found else None) is is_fall


def test_what_was_shown_is_counted_by_repository_and_week(tmp_path: Path) -> None:
    others = [
        replace(ONE, language="go", accepted=0),
        replace(ONE, shown=0, accepted=0),
        replace(ONE, repository=None),
        replace(ONE, repository="web-2", time=NOW - WEEK),
    ]
    found = acceptance.counted([ONE, *others])
    this, last = acceptance.week_of(NOW), acceptance.week_of(NOW - WEEK)
    assert found == {"shop-1": {this: (6, 2)}, "web-2": {last: (3, 2)}}
    acceptance.write(DataDir(tmp_path), found)
    assert acceptance.read(DataDir(tmp_path)) == found


@pytest.mark.parametrize("text", [None, "{", "[]", '{"shop-1": 3}', '{"shop-1": {"w": 3}}'])
def test_what_cannot_be_read_is_nothing(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        DataDir(tmp_path).acceptance.write_text(text)
    assert acceptance.read(DataDir(tmp_path)) == {}
