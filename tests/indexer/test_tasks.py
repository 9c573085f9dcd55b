"""Which lines are worth a task, and where the cursor stands in them."""

from __future__ import annotations

import re
from collections import Counter

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from homespun_indexer import filters
from homespun_indexer.files import SourceFile
from homespun_indexer.history import ChangedFile, Step
from homespun_indexer.tasks import MAX_TOKENS, MIN_TOKENS, cursor_column, file_places, line_reason, places, spread


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("    }", "too short"),
        (")", "too short"),
        ("    else:", "too short"),
        ("# a comment with words", "comment"),
        ("// a comment with words", "comment"),
        (" * part of a block comment", "comment"),
        ("import os, sys", "import"),
        ("from a import b", "import"),
        ("#include <stdio.h>", "comment"),
        ('    "a string, with words and more",', "string only"),
        ("key = 'AKIA" + "IOSFODNN7EXAMPLE'", "holds a secret"),
        ("x = '" + "aB3-" * 50_000 + "'", "too long"),  # in no time
        ("    return self.total + 1", None),
        ("if (x) {", None),
        ("xs = 'a' + 'b'", None),
    ],
)
def test_trivial_lines_make_no_task(line: str, reason: str | None) -> None:
    assert line_reason(line) == reason


TOKEN = re.compile(r"\w+|[^\w\s]")


@given(st.text("ab_ =().,1", min_size=1, max_size=120), st.floats(0, 1, exclude_max=True))
def test_the_cursor_stands_before_a_token_with_a_middle_of_fair_length(line: str, chance: float) -> None:
    assume(line_reason(line) is None)
    column = cursor_column(line, chance)
    assert MIN_TOKENS <= len(TOKEN.findall(line[column:])) <= MAX_TOKENS
    assert not line[column].isspace()
    assert line[:column] == "" or TOKEN.match(line, column)


def test_some_cursors_stand_at_the_indentation_and_most_inside() -> None:
    line = "    result = compute(first, second, third)"
    columns = [cursor_column(line, i / 1_000) for i in range(1_000)]
    assert Counter(c == 4 for c in columns)[True] == 250
    assert len(set(columns)) > 5


def test_places_are_spread_and_never_the_same_line_twice() -> None:
    text = "".join(f"value_{i % 40} = compute({i % 40})\n" for i in range(120))
    found = file_places(SourceFile(path="a.py", language="python", blob="x", text=text), "c", Counter())
    kept = spread(found, seed=0)
    assert len(kept) == 5
    assert len({p.line for p in kept}) == 5


def test_the_lines_of_a_large_step_are_counted_by_reason_though_none_is_kept() -> None:
    numbers = {"a.py": 2_000, "vendor/b.py": 1_500, "c.py": 1}
    changed = [ChangedFile(path=path, old_blob="0", new_blob="1", num_added=n) for path, n in numbers.items()]
    refused: Counter[str] = Counter()
    large = Step(commit="c", parent=None, time=0, author="Ada", subject="Add", files=changed, num_added=3_501)
    assert list(places(large, refused, lambda path: None)) == []
    assert refused == {"large commit": 2_001, filters.VENDORED: 1_500}
