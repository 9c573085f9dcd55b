"""Chunks that repeat the code before the cursor, in its order, come first among those of like score."""

from __future__ import annotations

import pytest

from homespun_indexer.tails import TAIL_BONUS, num_repeated, reordered, tails


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


def test_a_chunk_that_repeats_the_code_passes_one_of_slightly_better_score() -> None:
    texts = {"same words": "rows = self.total", "same order": "total = self.rows(2)"}
    hits = [("same words", 10.0), ("same order", 9.0)]
    assert [key for key, _ in reordered(hits, texts.__getitem__, "total = self.rows(")] == ["same order", "same words"]


def test_a_much_better_score_keeps_its_place() -> None:
    texts = {"far ahead": "nothing of it", "same order": "total = self.rows(2)"}
    hits = [("far ahead", 10.0), ("same order", 10.0 * (1 - 3 * TAIL_BONUS) - 0.1)]
    assert [key for key, _ in reordered(hits, texts.__getitem__, "total = self.rows(")] == ["far ahead", "same order"]


def test_equal_hits_keep_their_order_and_nothing_is_lost() -> None:
    hits = [("a", 3.0), ("b", 3.0), ("c", 3.0)]
    assert [key for key, _ in reordered(hits, lambda _: "x", "x")] == ["a", "b", "c"]
    assert reordered(hits, lambda _: "x", "") == hits
    assert reordered([], lambda _: "x", "x") == []
