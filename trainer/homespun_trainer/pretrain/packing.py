"""Samples into rows of one length: best fit, so that none is cut and little is padding."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Sequence

WINDOW = 20_000
"""Samples that are fitted together. Larger ones fill rows better by less than a thousandth."""


def pack(lengths: Sequence[int], row: int) -> list[list[int]]:
    """Numbers of samples by row. Longest first, each into the fullest row that still takes it; every window of samples
    by itself, so that rows of neighbours in a random order stay in a random order."""
    rows: list[list[int]] = []
    for start in range(0, len(lengths), WINDOW):
        rows += _packed(lengths, range(start, min(start + WINDOW, len(lengths))), row)
    return rows


def _packed(lengths: Sequence[int], numbers: range, row: int) -> list[list[int]]:
    rows: list[list[int]] = []
    free: list[tuple[int, int]] = []
    """(room, row), sorted"""
    for number in sorted(numbers, key=lambda n: -lengths[n]):
        length = lengths[number]
        assert 0 < length <= row, f"a sample of {length} tokens for rows of {row}"
        place = bisect_left(free, (length, -1))
        if place == len(free):
            room, which = row, len(rows)
            rows.append([])
        else:
            room, which = free.pop(place)
        rows[which].append(number)
        if room > length:
            insort(free, (room - length, which))
    return rows
