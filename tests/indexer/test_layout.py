"""How an index is laid out: what is decided over sizes alone."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homespun_indexer import layout
from homespun_indexer.layout import Use, absorbed, affordable, cost, cut, worn

KB, MB, GB = 1_000, 1_000_000, 1_000_000_000
SIZES = st.lists(st.one_of(st.integers(0, 3 * MB), st.integers(0, 100)), max_size=60)
USES = st.lists(
    st.tuples(st.integers(0, 30 * MB), st.floats(0, 1)).map(lambda drawn: Use(drawn[0], int(drawn[0] * drawn[1]))),
    max_size=12,
)


@pytest.mark.parametrize(
    ("cpus", "available", "running", "expected"),
    [
        (2, None, 0, 2),
        (64, None, 9, 16),
        (64, 4 * GB, 0, 5),  # a container of 4 GB on a large machine: sixteen would be killed
        (64, 4 * GB, 4, 1),
        (64, 4 * GB, 9, 1),
        (2, 4 * GB, 0, 2),
        (8, 100 * MB, 0, 1),
        (8, 0, 0, 1),
    ],
)
def test_there_are_as_many_processes_as_cores_and_memory_allow(
    cpus: int, available: int | None, running: int, expected: int
) -> None:
    assert affordable(cpus, available, running) == expected


@given(st.integers(1, 256), st.integers(0, 512 * GB), st.integers(0, 64))
def test_what_runs_together_has_its_memory(cpus: int, available: int, running: int) -> None:
    found = affordable(cpus, available, running)
    assert 1 <= found <= min(16, cpus)
    assert found == 1 or (found + running) * layout._PROCESS_BYTES <= available


@pytest.mark.parametrize(
    ("sizes", "processes", "expected"),
    [
        ([], 4, []),
        ([0], 4, [1]),
        ([10], 4, [1]),
        ([10] * 5, 4, [5]),  # too little to be worth a second process
        ([MB - KB] * 4, 4, [2, 2]),
        ([MB] * 4, 1, [4]),
        ([MB] * 16, 4, [4] * 4),
        ([MB] * 100, 2, [17, 17, 16, 17, 17, 16]),  # three rounds, so that little is in flight at once
        ([8 * MB, 10, 10, 10], 2, [1, 3]),
        ([10, 10, 8 * MB], 2, [3]),
        ([10, 8 * MB, 0, 0], 2, [2, 2]),
        ([0] * 100, 4, [100]),  # empty files made a segment, and a process, each
        ([8 * MB, *[0] * 100], 4, [1, 1, 1, 98]),
    ],
)
def test_files_are_cut_into_ranges_of_about_equal_size(sizes: list[int], processes: int, expected: list[int]) -> None:
    assert [part.stop - part.start for part in cut(sizes, processes)] == expected


@given(SIZES, st.integers(1, 16))
def test_a_cut_covers_every_file_once_in_order_in_few_ranges(sizes: list[int], processes: int) -> None:
    parts = cut(sizes, processes)
    assert [i for part in parts for i in range(len(sizes))[part]] == list(range(len(sizes)))
    assert all(part.start < part.stop for part in parts)
    rounds = -(-cost(sizes) // (layout._MAX_SEGMENT_BYTES * processes))
    assert len(parts) <= max(1, processes * rounds)


@given(SIZES, st.integers(1, 16))
def test_no_range_is_much_larger_than_the_others(sizes: list[int], processes: int) -> None:
    parts = cut(sizes, processes)
    share = max(2 * MB, cost(sizes) / processes)
    assert all(cost(sizes[part]) <= share + cost([max(sizes)]) for part in parts)


@pytest.mark.parametrize("size", [0, 10, 100])
def test_a_million_tiny_files_take_no_more_memory_at_once_than_a_few_large_ones(size: int) -> None:
    """Cut by their text alone, 228,000 files of 105 bytes went to one process, which had 957 MB; empty ones all did."""
    parts = cut([size] * 1_000_000, 1)
    assert max(part.stop - part.start for part in parts) * (size + layout._FILE_BYTES) <= layout._MAX_SEGMENT_BYTES


@pytest.mark.parametrize(
    ("segments", "new_bytes", "expected"),
    [
        ([], 10 * KB, set()),
        ([Use(100 * KB, 0)], 10 * KB, {0}),
        ([Use(100 * MB, 0)], 10 * KB, set()),
        ([Use(100 * MB, 0), Use(30 * KB, 0), Use(10 * KB, 10 * KB)], 10 * KB, {1, 2}),
        ([Use(300 * KB, 0), Use(200 * KB, 0)], 10 * KB, {1}),
        ([Use(300 * KB, 0), Use(200 * KB, 0)], 500 * KB, {0, 1}),
        ([Use(100 * MB, 99 * MB + 700 * KB)], 10 * KB, {0}),
    ],
)
def test_new_source_takes_the_smallest_segments_along(segments: list[Use], new_bytes: int, expected: set[int]) -> None:
    assert absorbed(segments, new_bytes) == expected


@given(USES, st.integers(0, 5 * MB))
def test_what_is_taken_along_costs_at_most_what_is_new_or_what_is_quick(segments: list[Use], new_bytes: int) -> None:
    chosen = absorbed(segments, new_bytes)
    assert sum(segments[i].live_bytes for i in chosen) <= max(new_bytes, 400 * KB)
    left = [segments[i].live_bytes for i in range(len(segments)) if i not in chosen]
    assert all(segments[i].live_bytes <= live for i in chosen for live in left)


@pytest.mark.parametrize(
    ("segments", "expected"),
    [
        ([], set()),
        ([Use(100 * MB, 20 * MB)], set()),
        ([Use(100 * MB, 20 * MB + 1)], {0}),
        ([Use(10 * KB, 0)] * 4, set()),
        ([Use(10 * KB, 0)] * 5, {0, 1, 2, 3, 4}),
        ([Use(10 * KB, 0)] * 5 + [Use(100 * MB, 0)], {0, 1, 2, 3, 4}),
        ([Use(10 * KB, 0)] * 3 + [Use(100 * MB, 50 * MB)], {3}),
        ([Use(2 * MB, 0)] * 20, set()),
        ([Use(2 * MB, 0)] * 20 + [Use(10 * KB, 0)] * 4, set()),
        ([Use(2 * MB, 0)] * 20 + [Use(10 * KB, 0)] * 5, set(range(25))),
        ([Use(0, 0)], set()),
    ],
)
def test_segments_wear_out_by_what_is_dead_and_by_being_many(segments: list[Use], expected: set[int]) -> None:
    assert worn(segments) == expected


@given(SIZES, st.integers(1, 16))
def test_what_was_just_built_is_not_worn(sizes: list[int], processes: int) -> None:
    """With five processes or more, a repository of 10 MB was built in segments that counted as small, and so was built
    again at once, into the same segments, and so on after every change."""
    assert worn([Use(cost(sizes[part]), 0) for part in cut(sizes, processes)]) == frozenset()


Files = dict[int, int]
"""File -> bytes."""


class Index:
    """An index of sizes alone, which does what `indexing` does with them."""

    def __init__(self, files: Files) -> None:
        self.files = files
        self.segments: list[tuple[Files, set[int]]] = []
        """Each with its dead files."""
        self.built = 0
        self._build(list(files))

    @property
    def uses(self) -> list[Use]:
        return [Use(cost(table.values()), cost([table[f] for f in dead])) for table, dead in self.segments]

    def change(self, changed: Sequence[int], new_size: int) -> None:
        for table, dead in self.segments:
            dead.update(f for f in changed if f in table)
        self.files.update(dict.fromkeys(changed, new_size))
        self._replace(absorbed(self.uses, cost([new_size] * len(changed))), list(changed))
        again = worn(self.uses)
        if again:
            self._replace(again, [])

    def _replace(self, again: frozenset[int], new: list[int]) -> None:
        living = [f for i in sorted(again) for f in self.segments[i][0] if f not in self.segments[i][1]]
        self.segments = [s for i, s in enumerate(self.segments) if i not in again and set(s[0]) - s[1]]
        self._build([*living, *new])

    def _build(self, files: list[int]) -> None:
        sizes = [self.files[f] for f in files]
        self.built += sum(sizes)
        for part in cut(sizes, 2):
            self.segments.append(({f: self.files[f] for f in files[part]}, set()))


@given(
    st.lists(st.tuples(st.lists(st.integers(0, 59), min_size=1, max_size=6), st.integers(1, 900 * KB)), max_size=60),
    st.sampled_from([10 * KB, 100 * KB, MB]),
)
def test_segments_stay_few_and_full_whatever_changes(steps: list[tuple[list[int], int]], size: int) -> None:
    index = Index(dict.fromkeys(range(60), size))
    for changed, new_size in steps:
        index.change(sorted(set(changed)), new_size)
        living = [f for table, dead in index.segments for f in table if f not in dead]
        assert sorted(living) == sorted(index.files)
        assert len(index.segments) <= 4 + 2 + sum(use.num_bytes for use in index.uses) / (2 * MB)
        assert all(use.dead_bytes <= 0.2 * use.num_bytes for use in index.uses)


def test_a_thousand_saves_cost_little_more_than_what_they_take_along() -> None:
    """A repository of 60 MB; each save writes a file of 10 kB."""
    index = Index(dict.fromkeys(range(6_000), 10 * KB))
    before = index.built
    for i in range(1_000):
        index.change([i * 7 % 6_000], 10 * KB)
    assert index.built - before < 1_000 * 2 * 400 * KB
    assert len(index.segments) <= 4 + 2 + 30
