"""Drafts are what a slow and obvious search would give."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from homespun_indexer.datastore import DEPTH, MAX_HITS, MIN_MATCH, Datastore, agreed, counted, sorted_suffixes, vote

FILES = st.lists(st.lists(st.integers(0, 3), max_size=40), min_size=1, max_size=4)
WIDE = 70_000
"""An id that doesn't fit into 16 bits."""


def build(files: list[list[int]]) -> Datastore:
    return Datastore(Datastore.build([np.array(ids, np.int32) for ids in files]))


def listed(files: list[list[int]]) -> set[int]:
    """The ids that contexts are looked up by: all but the most frequent ones, which together make up half."""
    counts = Counter(token for ids in files for token in ids)
    room, common = counts.total() / 2, set()
    before = 0
    for token, count in sorted(counts.items(), key=lambda item: (-item[1], item[0])):
        before += count
        if before > room:
            break
        common.add(token)
    return set(counts) - common


def slow_find(files: list[list[int]], context: list[int]) -> tuple[int, set[tuple[int, int]]]:
    """The length of the longest end of `context` that occurs, and the places (file, number) of what follows it.

    It counts only with a listed token among its last DEPTH: up to there an end is found, and before that it is
    compared in place, with the hits of the longest that was found.
    """
    known = listed(files)
    best: list[tuple[int, int]] = []
    length = 0
    for start in range(max(0, len(context) - DEPTH), len(context)):
        wanted = context[start:]
        if wanted[0] not in known:
            continue
        best = [
            (f, at + len(wanted))
            for f, ids in enumerate(files)
            for at in range(len(ids) - len(wanted) + 1)
            if ids[at : at + len(wanted)] == wanted
        ]
        if best:
            length = len(wanted)
            break
    lengths = {(f, end): common_end(files[f][:end], context) for f, end in best}
    longest = max(lengths.values(), default=0)
    assert longest >= length
    if longest < MIN_MATCH:
        return 0, set()
    return longest, {place for place, reached in lengths.items() if reached == longest}


def common_end(a: list[int], b: list[int]) -> int:
    count = 0
    while count < min(len(a), len(b)) and a[-1 - count] == b[-1 - count]:
        count += 1
    return count


def placed(files: list[list[int]], positions: list[int]) -> set[tuple[int, int]]:
    """Positions as (file, number of the token in it)."""
    starts = [1 + sum(len(ids) + 1 for ids in files[:f]) for f in range(len(files))]
    numbers = [max(f for f, start in enumerate(starts) if start <= position) for position in positions]
    return {(f, position - starts[f]) for f, position in zip(numbers, positions, strict=True)}


@settings(max_examples=400)
@given(FILES, st.lists(st.integers(0, 4), max_size=40), st.sampled_from([1, WIDE]))
def test_the_longest_match_is_the_one_of_brute_force(files: list[list[int]], context: list[int], scale: int) -> None:
    """With ids of 16 bits and of more."""
    files, context = [[i * scale for i in ids] for ids in files], [i * scale for i in context]
    length, positions = build(files).find(context)
    assert (length, placed(files, positions)) == slow_find(files, context)


def test_a_match_in_living_files_only_is_that_of_an_index_without_the_dead_ones() -> None:
    """With more dead hits before the living ones than are looked at at once."""
    dead, living = [1, 2, 3, 4, 5] * 2_000, [9, 1, 2, 3, 4, 6, 1, 2, 3]
    store = build([dead, living])

    def are_alive(positions: NDArray[np.int64]) -> NDArray[np.bool_]:
        return positions > len(dead)

    length, positions = store.find([0, 1, 2, 3, 4], are_alive)
    assert (length, placed([dead, living], positions)) == (4, {(1, 5)})
    assert store.find([1, 2, 3, 4, 5], are_alive) == (0, [])
    assert store.find([1, 2, 3, 4, 5])[0] == 5


@settings(max_examples=200)
@given(FILES, st.lists(st.integers(0, 4), max_size=40), st.data())
def test_dead_files_might_as_well_not_be_there(files: list[list[int]], context: list[int], data: st.DataObject) -> None:
    dead = data.draw(st.sets(st.integers(0, len(files) - 1)))
    starts = np.cumsum([1, *(len(ids) + 1 for ids in files)])[: len(files)]

    def are_alive(positions: NDArray[np.int64]) -> NDArray[np.bool_]:
        return ~np.isin(np.searchsorted(starts, positions, "right") - 1, list(dead))

    length, positions = build(files).find(context, are_alive)
    assert not {f for f, _ in placed(files, positions)} & dead
    assert all(files[f][at - length : at] == context[len(context) - length :] for f, at in placed(files, positions))
    longest = max(
        (common_end(ids[:at], context) for f, ids in enumerate(files) if f not in dead for at in range(len(ids) + 1)),
        default=0,
    )
    assert length in (longest, 0)


@settings(max_examples=200)
@given(FILES, st.data())
def test_what_stands_in_a_file_is_followed_by_what_follows_it(files: list[list[int]], data: st.DataObject) -> None:
    """Contexts that occur are found, at full length, unless they consist of common tokens alone."""
    ids = files[data.draw(st.integers(0, len(files) - 1))]
    end = data.draw(st.integers(0, len(ids)))
    context = ids[max(0, end - 20) : end]
    length, positions = build(files).find(context)
    if len(context) >= MIN_MATCH and listed(files) & set(context[-DEPTH:]):
        assert length == len(context)
    assert all(files[f][at - length : at] == context[len(context) - length :] for f, at in placed(files, positions))


def slow_vote(files: list[list[int]], places: set[tuple[int, int]], max_tokens: int) -> list[int]:
    drafted: list[int] = []
    while len(drafted) < max_tokens:
        following = {(f, p): files[f][p] if p < len(files[f]) else -1 for f, p in places}
        token = max(Counter(following.values()).items(), key=lambda item: (item[1], -item[0]))[0]
        if token < 0:
            break
        drafted.append(token)
        places = {(f, p + 1) for (f, p), t in following.items() if t == token}
    return drafted


@settings(max_examples=200)
@given(FILES, st.lists(st.integers(0, 3), max_size=12), st.integers(1, 6))
def test_a_draft_is_what_most_places_agree_on(files: list[list[int]], context: list[int], max_tokens: int) -> None:
    store = build(files)
    _, positions = store.find(context)
    _, places = slow_find(files, context)
    assert (vote([(store, positions)], max_tokens) if positions else []) == (
        slow_vote(files, places, max_tokens) if places else []
    )


def test_stores_vote_together() -> None:
    first, second = build([[7, 8, 9, 1]]), build([[7, 8, 9, 2, 5], [7, 8, 9, 2, 6]])
    places = [(store, store.find([7, 8, 9])[1]) for store in (first, second)]
    assert vote(places, 2) == [2, 5]
    assert counted(places) == {2: 2, 1: 1}


def test_what_all_places_agree_on_is_shown_as_far_as_they_do() -> None:
    store = build([[7, 8, 9, 4, 5, 1], [7, 8, 9, 4, 5, 2], [3, 7, 8, 9, 4, 5]])
    places = [(store, store.find([7, 8, 9])[1])]
    assert agreed(places, 8) == [4, 5]
    assert agreed(places, 1) == [4]
    assert agreed([(store, places[0][1][:1])], 8) == []  # one place is no agreement
    assert agreed([(build([[7, 8, 9], [7, 8, 9]]), [])], 8) == []


def test_the_end_of_a_file_is_not_counted_and_ends_a_draft() -> None:
    store = build([[7, 8, 9], [7, 8, 9], [1, 7, 8, 9, 4]])
    _, found = store.find([7, 8, 9])
    assert sorted(store.following(found)) == [-1, -1, 4]
    assert counted([(store, found)]) == {4: 1}
    assert vote([(store, found)], 3) == []


def test_short_matches_find_nothing() -> None:
    store = build([[1, 2, 3, 4, 5]])
    assert store.find([9, 2, 3]) == (0, [])
    assert store.find([]) == (0, [])
    assert store.find([1, 2, 3]) == (3, [4])


@pytest.mark.parametrize("unknown", [-1, 65_535, 65_536, 1 << 31])
def test_ids_that_no_file_has_match_nothing_and_never_the_end_of_a_file(unknown: int) -> None:
    store = build([[1, 2, 3, 4], [5, 6, 7, 8]])
    assert store.find([2, 3, 4, unknown]) == (0, [])
    assert store.find([unknown, 5, 6, 7]) == (3, [9])
    assert store.find([3, 4, unknown, 5]) == (0, [])


def test_a_match_does_not_cross_files() -> None:
    assert build([[1, 2, 3], [4, 5, 6]]).find([2, 3, 4, 5]) == (0, [])


def test_a_few_hits_stand_for_many() -> None:
    store = build([[1, 2, 3, 7]] * 5 + [[1, 2, 3, 8, 9]] * 500)
    length, found = store.find([1, 2, 3])
    assert (length, len(found)) == (3, MAX_HITS)
    assert vote([(store, found)], 2) == [8, 9]


@pytest.mark.parametrize(("largest", "width"), [(65_533, 2), (65_534, 3), (150_000, 3)])
def test_the_width_follows_the_vocabulary(largest: int, width: int) -> None:
    files = [[largest, 5, 6, 7, largest]]
    arrays = Datastore.build([np.array(ids, np.int32) for ids in files])
    assert arrays["tokens"].shape[1] == width
    length, found = Datastore(arrays).find([largest, 5, 6, 7])
    assert (length, Datastore(arrays).following(found)) == (4, [largest])


def test_no_tokens_make_a_store_in_which_nothing_is_found() -> None:
    for num_files in range(3):
        store = build([[]] * num_files)
        assert store.num_tokens == num_files + 1
        assert store.find([1, 2, 3]) == (0, [])


@settings(max_examples=200)
@given(st.lists(st.integers(0, 3), min_size=1, max_size=80), st.sampled_from([1, 30_000]), st.data())
def test_suffixes_are_ordered_by_their_first_tokens_then_by_place(
    tokens: list[int], scale: int, data: st.DataObject
) -> None:
    """The end of all tokens counts as separators; ids of 16 bits, of which two are compared at a time, and of more."""
    scaled = [token * scale for token in tokens]
    wanted = sorted(data.draw(st.sets(st.integers(0, len(tokens) - 1))))
    ordered = sorted_suffixes(np.array(scaled, np.uint32), np.array(wanted, np.uint32)).tolist()
    padded = scaled + [0] * DEPTH
    assert ordered == sorted(wanted, key=lambda i: (padded[i : i + DEPTH], i))


def test_no_places_draft_nothing() -> None:
    """It failed, so that every draft did for which nothing was found."""
    assert vote([], 4) == []
    assert counted([]) == {}
