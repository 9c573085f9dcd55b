"""Chunks that repeat the code before the cursor, in its order, come first among those of like score."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homespun_indexer.parts import Hit
from homespun_indexer.tails import LOOKED_AT, TAIL_BONUS, num_repeated, reordered, tails


@pytest.mark.parametrize(
    ("prefix", "expected"),
    [
        ("total = self.rows(", ("(", "rows(", ".rows(")),
        ("if x:\n        return  value", ("value", "return value", ": return value")),
        ("x", ("x",)),
        ("  \n", ()),
        ("", ()),
        ("größe = ", ("=", "größe =")),
    ],
)
def test_tails_grow_by_a_token_and_ignore_layout(prefix: str, expected: tuple[str, ...]) -> None:
    assert tails(prefix) == expected


def test_repetition_counts_until_the_first_tail_that_is_missing() -> None:
    ends = tails("total = self.rows(")
    assert num_repeated(ends, "for row in self\n    .rows(1):") == 3
    assert num_repeated(ends, "rows(1)") == 2
    assert num_repeated(ends, "(rows)") == 1
    assert num_repeated(ends, "rows") == 0


TEXTS = st.lists(st.sampled_from(["a", "b", "(", ".", " ", "\n", "  \t"]), max_size=12).map("".join)


@given(TEXTS, TEXTS)
def test_layout_doesn_t_matter_to_repetition(prefix: str, text: str) -> None:
    ends, flat = tails(prefix), " ".join(text.split())
    missing = [number for number, end in enumerate(ends) if end not in flat]
    assert num_repeated(ends, text) == min(missing, default=len(ends))


def order(scores: list[float], texts: list[str], prefix: str) -> list[int]:
    """Numbers of the hits as they come."""
    hits = [Hit(score, 0, number) for number, score in enumerate(scores)]
    return [hit.chunk for hit in reordered(hits, lambda hit: texts[hit.chunk], prefix)]


SAME_WORDS, SAME_ORDER = "rows = self.total", "total = self.rows(2)"


def test_a_chunk_that_repeats_the_code_passes_one_of_slightly_better_score() -> None:
    assert order([10.0, 9.0], [SAME_WORDS, SAME_ORDER], "total = self.rows(") == [1, 0]


def test_a_much_better_score_keeps_its_place() -> None:
    behind = 10.0 * (1 - 3 * TAIL_BONUS) - 0.1
    assert order([10.0, behind], ["nothing of it", SAME_ORDER], "total = self.rows(") == [0, 1]


def test_equal_hits_keep_their_order_and_nothing_is_lost() -> None:
    assert order([3.0, 3.0, 3.0], ["x"] * 3, "x") == [0, 1, 2]
    assert order([3.0, 2.0], ["x"] * 2, "") == [0, 1]
    assert order([], [], "x") == []


def test_only_the_best_hits_are_looked_at() -> None:
    texts = ["no"] * LOOKED_AT + [SAME_ORDER]
    assert order([1.0] * (LOOKED_AT + 1), texts, "total = self.rows(") == list(range(LOOKED_AT + 1))
