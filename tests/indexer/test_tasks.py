"""Which lines are worth a task, and where the cursor stands in them."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from homespun_indexer import filters
from homespun_indexer.files import SourceFile
from homespun_indexer.history import ChangedFile, Step
from homespun_indexer.secrets import redact
from homespun_indexer.tasks import (
    MAX_TOKENS,
    MIN_TOKENS,
    Place,
    cursor_column,
    file_places,
    line_reason,
    places,
    spread,
    task,
)


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


KEY = [f"{part}+Qz{part}/{part}x9" for part in ("MIIEow", "kR3vBq", "Jt7WnL", "Yh2PdS")]
WITH_KEY = "\n".join(
    ['KEY = """', "-----BEGIN PRIVATE" + " KEY-----", *KEY, "-----END PRIVATE KEY-----", '"""', "total = price(item)"]
)


def place_at(number: int, text: str) -> Place:
    line = text.split("\n")[number - 1]
    return Place(
        path="a.py",
        language="python",
        commit="c",
        line=line,
        number=number,
        old_below=number + 1,
        old_blob="x",
        new_blob="x",
    )


def test_no_line_of_a_private_key_is_a_task_or_stands_around_one() -> None:
    """A line of it says nothing by itself: BEGIN and END are on others, and the cursor cut the text between them."""
    assert [line_reason(line) for line in KEY] == [None] * len(KEY)
    inside = [task(place_at(3 + i, WITH_KEY), WITH_KEY, WITH_KEY, set().__contains__, 0) for i in range(len(KEY))]
    assert inside == [None] * len(KEY)
    whole = f"before = 1 + 2\n{WITH_KEY}\n"
    for number in (1, 10):
        made = task(place_at(number, whole), whole, whole, set().__contains__, 0)
        assert made is not None and not any(part in made.prefix + made.middle + made.suffix for part in KEY)


def test_what_stood_below_a_place_inside_a_private_key_makes_no_task() -> None:
    new, old = "total = price(item)\n", WITH_KEY
    above_the_key, inside = (replace(place_at(1, new), old_below=below) for below in (1, 4))
    made = task(above_the_key, new, old, set().__contains__, 0)
    assert made is not None and made.suffix == "\n" + redact(old)[0]
    assert task(inside, new, old, set().__contains__, 0) is None


@given(st.lists(st.sampled_from(["x = price(item)", "", "key = 'AKIA" + "IOSFODNN7EXAMPLE'"])), st.integers(0, 100))
def test_around_a_task_stands_the_redacted_file(above: list[str], chosen: int) -> None:
    lines = [*above, "y = 1 + 2"]
    text, numbers = "\n".join(lines), [n for n, line in enumerate(lines, 1) if line]
    place = place_at(numbers[chosen % len(numbers)], text)
    made = task(place, text, text, set().__contains__, 0)
    if place.line.startswith("key"):
        assert made is None
    else:
        assert made is not None and made.prefix + made.middle + made.suffix == redact(text)[0]


def test_the_lines_of_a_large_step_are_counted_by_reason_though_none_is_kept() -> None:
    numbers = {"a.py": 2_000, "vendor/b.py": 1_500, "c.py": 1}
    changed = [ChangedFile(path=path, old_blob="0", new_blob="1", num_added=n) for path, n in numbers.items()]
    refused: Counter[str] = Counter()
    large = Step(commit="c", parent=None, time=0, author="Ada", subject="Add", files=changed, num_added=3_501)
    assert list(places(large, refused, lambda path: None)) == []
    assert refused == {"large commit": 2_001, filters.VENDORED: 1_500}
