"""How a selection is made of rankings: pure functions."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from homespun_core.types import SearchQuery
from homespun_indexer.lexical import terms
from homespun_indexer.search import (
    SNIPPET_CHARS,
    SNIPPET_LINES,
    LineWeights,
    Window,
    focus,
    is_duplicate,
    line_set,
    overlaps_cursor,
    term_weights,
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


def test_near_duplicates_are_seen_through_changed_lines_and_indentation() -> None:
    text = "".join(f"value_{i} = {i}\n" for i in range(10))
    lines = line_set(text)
    assert is_duplicate(line_set("  " + text.replace("value_3 = 3", "other = 1")), [lines])
    assert not is_duplicate(line_set("".join(f"name_{i} = {i}\n" for i in range(10))), [lines])
    assert not is_duplicate(lines, [])


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


@given(LINES, st.integers(0, 40))
def test_focus_is_a_range_of_lines_that_fits_and_starts_in_the_chunk(lines: list[str], num_following: int) -> None:
    """And reaches beyond the chunk only where there is room."""
    num_own = max(1, len(lines) - num_following)
    start, end = focus(lines, num_own, LineWeights({"match_me": 1.0, "match": 0.5}))
    assert 0 <= start < num_own and start < end <= len(lines)
    assert end - start <= SNIPPET_LINES
    assert sum(len(line) + 1 for line in lines[start:end]) <= SNIPPET_CHARS or end - start == 1


@given(LINES)
def test_no_longer_range_would_fit(lines: list[str]) -> None:
    start, end = focus(lines, len(lines), LineWeights({"match_me": 1.0}))
    longer = lines[start : end + 1]
    assert end == len(lines) or len(longer) > SNIPPET_LINES or sum(len(line) + 1 for line in longer) > SNIPPET_CHARS


PLACED = st.sampled_from(["far near", "near", "nearFar", "x", "", "other_near"])


@given(st.lists(PLACED, max_size=25), st.lists(PLACED, max_size=10))
def test_a_term_has_the_weight_of_its_best_place(above: list[str], below: list[str]) -> None:
    near = Window(above=tuple(above), below=tuple(below))
    by_line = [term_weights(Window(above=tuple(above[i:]), below=())) for i in range(len(above))]
    assert all(term_weights(near)[term] >= weight for one in by_line for term, weight in one.items())
    assert set(term_weights(near)) == set(terms(near.text))


def test_focus_shows_the_match_and_what_follows_it() -> None:
    lines = [f"filler_{i} = {i}" for i in range(100)]
    lines[50] = "the_match(value)"
    for num_own in (100, 60, 51):
        start, end = focus(lines, num_own, LineWeights({"the_match": 1.0}))
        assert start <= 50 < end
        assert 50 - start < end - 50


def test_focus_looks_for_matches_in_the_chunk_only_and_goes_on_after_it() -> None:
    lines = [f"filler_{i} = {i}" for i in range(60)]
    lines[40] = "the_match(value)"
    assert focus(lines, 10, LineWeights({"the_match": 1.0}))[0] == 0
    assert focus(lines, 10, LineWeights({"the_match": 1.0}))[1] > 10
