"""How a selection is made of rankings: pure functions."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from homespun_core.types import SearchQuery
from homespun_indexer.search import (
    SNIPPET_CHARS,
    SNIPPET_LINES,
    focus,
    fuse,
    is_duplicate,
    overlaps_cursor,
    term_weights,
    used_names,
    window,
)


def query(prefix: str, suffix: str = "") -> SearchQuery:
    return SearchQuery(prefix=prefix, suffix=suffix, path=None, language=None)


def test_a_window_is_the_last_lines_above_and_the_first_below() -> None:
    near = window(query("".join(f"line_{i}\n\n" for i in range(100)) + "  cursor.", "rest\n\nbelow_1\n" + "x\n" * 50))
    assert near.above[-1] == "  cursor."
    assert near.above[-2] == "line_99"
    assert near.below[:2] == ("rest", "below_1")
    assert len(near.above) <= 20
    assert len(near.below) <= 8


def test_terms_near_the_cursor_weigh_more() -> None:
    weights = term_weights(window(query("far_name\n" + "x = 1\n" * 10 + "near_name\n", "below_name\n")))
    assert weights["near_name"] > weights["far_name"] > 0
    assert weights["near_name"] > weights["below_name"] > 0
    assert weights["name"] == weights["near_name"]


def test_used_names_come_nearest_first_and_once() -> None:
    assert used_names(window(query("a_1 = b_1\nc_1 = a_1(d_1"))) == ["d_1", "a_1", "c_1", "b_1"]


def test_fusion_adds_weighted_reciprocal_ranks() -> None:
    fused = dict(fuse({"x": ["a", "b"], "y": ["b"]}, {"x": 1.0, "y": 0.5}))
    assert fused == {"a": 1 / 61, "b": 1 / 62 + 0.5 / 61}


@given(st.dictionaries(st.sampled_from("xyz"), st.lists(st.integers(0, 20), unique=True)))
def test_fusion_keeps_every_candidate_once_best_first(rankings: dict[str, list[int]]) -> None:
    fused = fuse(rankings, {"x": 1.0, "y": 0.5, "z": 0.0})
    keys = [key for key, _ in fused]
    assert len(keys) == len(set(keys))
    assert set(keys) == {key for arm in "xy" for key in rankings.get(arm, [])}
    assert [score for _, score in fused] == sorted((score for _, score in fused), reverse=True)


def test_an_arm_alone_keeps_its_order() -> None:
    assert [key for key, _ in fuse({"x": [3, 1, 2]}, {"x": 0.3})] == [3, 1, 2]


def test_near_duplicates_are_seen_through_changed_lines_and_indentation() -> None:
    text = "".join(f"value_{i} = {i}\n" for i in range(10))
    assert is_duplicate("  " + text.replace("value_3 = 3", "other = 1"), [text])
    assert not is_duplicate("".join(f"name_{i} = {i}\n" for i in range(10)), [text])
    assert not is_duplicate(text, [])


def test_the_place_being_written_is_recognised_without_a_path() -> None:
    written = "    items = self.items_of_customer()\n    prices = self.prices_of(items)\n"
    text = f"def total(self):\n{written}    return sum(prices)\n"
    near = window(query(f"{written}    ret"))
    assert overlaps_cursor(text, near)
    assert not overlaps_cursor(text.replace("items_of", "things_of"), near)
    assert not overlaps_cursor("}\n}\n}\n", window(query("}\n}\n")))


LINES = st.lists(
    st.sampled_from(["", "a = match_me()", "b = 2", "c" * 200, "    nested.match_me(other)"]), min_size=1, max_size=80
)


@given(LINES)
def test_focus_is_a_range_of_lines_that_fits(lines: list[str]) -> None:
    start, end = focus(lines, {"match_me": 1.0, "match": 0.5})
    assert 0 <= start < end <= len(lines)
    assert end - start <= SNIPPET_LINES
    assert sum(len(line) + 1 for line in lines[start:end]) <= SNIPPET_CHARS or end - start == 1


def test_focus_shows_the_match_and_what_follows_it() -> None:
    lines = [f"filler_{i} = {i}" for i in range(100)]
    lines[50] = "the_match(value)"
    start, end = focus(lines, {"the_match": 1.0})
    assert start <= 50 < end
    assert 50 - start < end - 50
