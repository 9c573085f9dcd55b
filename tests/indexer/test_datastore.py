"""Drafts are what a slow and obvious search would give."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from homespun_indexer.datastore import DEPTH, MAX_HITS, MIN_MATCH, SEPARATOR, Datastore, suffix_array

FILES = st.lists(st.lists(st.integers(0, 3), max_size=40), min_size=1, max_size=4)


def build(files: list[list[int]]) -> Datastore:
    return Datastore.build([np.array(ids, dtype=np.int32) for ids in files])


def slow_draft(files: list[list[int]], context: list[int], max_tokens: int) -> list[int]:
    """Every place of the longest suffix that occurs; then vote, token by token."""
    for length in range(min(len(context), DEPTH), MIN_MATCH - 1, -1):
        wanted = context[-length:]
        places = [
            (file, start + length)
            for file, ids in enumerate(files)
            for start in range(len(ids) - length + 1)
            if ids[start : start + length] == wanted
        ]
        if places:
            return slow_vote(files, places, max_tokens)
    return []


def slow_vote(files: list[list[int]], places: list[tuple[int, int]], max_tokens: int) -> list[int]:
    drafted: list[int] = []
    while len(drafted) < max_tokens:
        following = [files[f][p] if p < len(files[f]) else SEPARATOR for f, p in places]
        token = max(Counter(following).items(), key=lambda item: (item[1], -item[0]))[0]
        if token == SEPARATOR:
            break
        drafted.append(token)
        places = [(f, p + 1) for (f, p), t in zip(places, following, strict=True) if t == token]
    return drafted


@settings(max_examples=300, deadline=None, derandomize=True)
@given(FILES, st.lists(st.integers(0, 3), max_size=40), st.integers(0, 6))
def test_a_draft_is_the_longest_match_by_brute_force(
    files: list[list[int]], context: list[int], max_tokens: int
) -> None:
    assert build(files).draft(context, max_tokens) == slow_draft(files, context, max_tokens)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.lists(st.integers(-1, 2), max_size=80), st.sampled_from([1, 2, 4, 32]))
def test_suffixes_are_ordered_by_their_first_tokens_then_by_place(tokens: list[int], depth: int) -> None:
    ordered = suffix_array(np.array(tokens, dtype=np.int32), depth).tolist()
    assert ordered == sorted(range(len(tokens)), key=lambda i: (tokens[i : i + depth], i))


def test_short_matches_draft_nothing() -> None:
    store = build([[1, 2, 3, 4, 5]])
    assert store.draft([9, 2, 3], 4) == []
    assert store.draft([1, 2, 3], 4) == [4, 5]
    assert store.draft([], 4) == []


def test_a_draft_does_not_cross_files() -> None:
    assert build([[1, 2, 3], [4, 5, 6]]).draft([1, 2, 3], 4) == []


def test_the_majority_decides_and_a_few_hits_stand_for_many() -> None:
    files = [[1, 2, 3, 7]] * 5 + [[1, 2, 3, 8, 9]] * 500
    assert build(files).draft([1, 2, 3], 2) == [8, 9]
    assert MAX_HITS < 505


def test_it_comes_back_from_disk_as_it_was(tmp_path: Path) -> None:
    store = build([[1, 2, 3, 4], [1, 2, 3, 5]])
    store.save(tmp_path / "d")
    loaded = Datastore.load(tmp_path / "d")
    assert loaded.num_tokens == store.num_tokens == 11
    assert loaded.draft([1, 2, 3], 1) == store.draft([1, 2, 3], 1) == [4]
