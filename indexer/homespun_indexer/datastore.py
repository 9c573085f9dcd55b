"""What stood in the code after the longest context that matches: drafts for speculative decoding.

The token ids of all files, with a separator between them, and a suffix array over them. Two things keep it small and
fast to build. Suffixes that start with one of the most common tokens (a line break, a bracket, `self`), which make up
half of all code, aren't listed: a context is looked up from its first uncommon token on, and what stood before that is
compared in place. And suffixes are ordered by their first DEPTH tokens only.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

DEPTH = 16
"""Tokens that suffixes are ordered by. Contexts may be longer: what they add is compared with the hits, if these are
few."""
MIN_MATCH = 3
"""Shorter contexts say too little about what follows."""
LONG_MATCH = 8
"""From here on, what follows at all places may be shown without asking a model."""
MAX_CONTEXT = 48
"""More is never looked at."""
MAX_HITS = 64
_LISTED_SHARE = 0.5
_FENCE = 128
_BLOCK = 4_096
"""Hits of which is looked at once whether they are alive: one by one in Python, 1,400 dead ones took 10 ms."""

Alive = Callable[[NDArray[np.int64]], NDArray[np.bool_]]
"""Which of these positions are in files that are alive."""


class Numbers(Sequence[int]):
    """Integers as they lie on disk: big-endian, `width` bytes each, a row each, so that bytes compare as numbers do."""

    def __init__(self, rows: NDArray[np.uint8]) -> None:
        self.width = rows.shape[1]
        self._data = rows.reshape(-1).data
        self._length = len(rows)

    @staticmethod
    def packed(numbers: NDArray[np.uint32], width: int) -> NDArray[np.uint8]:
        """The rows for numbers that fit into `width` bytes."""
        return numbers.astype(">u4").view(np.uint8).reshape(-1, 4)[:, 4 - width :]

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, place: int) -> int:  # type: ignore[override]  # no slices
        return int.from_bytes(self._data[place * self.width : (place + 1) * self.width], "big")

    def between(self, first: int, last: int) -> NDArray[np.int64]:
        rows = np.frombuffer(self._data[first * self.width : last * self.width], np.uint8).reshape(-1, self.width)
        wide = np.zeros((len(rows), 4), np.uint8)
        wide[:, 4 - self.width :] = rows
        return wide.view(">u4").ravel().astype(np.int64)

    def raw(self, place: int, count: int) -> bytes:
        """The bytes of `count` numbers; of fewer at the end."""
        return bytes(self._data[place * self.width : (place + count) * self.width])


class Datastore:
    """Of one segment. Safe for concurrent reading.

    Tokens are one more than their id, so that zero is the separator.
    """

    def __init__(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        self._tokens, self._suffixes = Numbers(arrays["tokens"]), Numbers(arrays["suffixes"])
        self._is_common: NDArray[np.uint8] = arrays["common_tokens"]
        self.num_tokens = len(self._tokens)

    @staticmethod
    def build(files: Sequence[NDArray[np.int32]]) -> dict[str, NDArray[Any]]:
        """The arrays for files given as token ids. File i starts at the sum of the lengths before it, plus i + 1."""
        separator = np.zeros(1, np.uint32)
        tokens = np.concatenate(
            [separator, *(part for ids in files for part in (ids.astype(np.uint32) + np.uint32(1), separator))]
        )
        is_common = _common(tokens)
        suffixes = sorted_suffixes(tokens, np.flatnonzero(~is_common[tokens]).astype(np.uint32))
        return {
            "tokens": Numbers.packed(tokens, 2 if int(tokens.max()) < (1 << 16) - 1 else 3),
            "suffixes": Numbers.packed(suffixes, 3 if len(tokens) < 1 << 24 else 4),
            "common_tokens": is_common.astype(np.uint8),
        }

    def find(self, context: Sequence[int], are_alive: Alive | None = None) -> tuple[int, list[int]]:
        """The length of the longest end of `context` found anywhere, and where it is followed by what: at most
        MAX_HITS positions. (0, []) when it is shorter than MIN_MATCH. Positions that aren't alive don't count."""
        wanted = self._encoded(context)
        earliest = max(0, len(context) - DEPTH)
        starts = [i for i in range(earliest, len(context)) if not self._common(context[i])]
        low, high = 0, len(starts)
        found: tuple[int, list[int]] | None = None
        while low < high:  # if the end from one token on occurs, so do all shorter ones
            middle = (low + high) // 2
            start = starts[middle]
            places = self._places(wanted[start * self._tokens.width :], len(context) - start, are_alive)
            if places:
                found, high = (start, places), middle
            else:
                low = middle + 1
        return self._extended(wanted, len(context), *found) if found else (0, [])

    def following(self, positions: Sequence[int]) -> list[int]:
        """The token id at each position; -1 at the end of a file."""
        return [self._tokens[position] - 1 for position in positions]

    def _reader(self, count: int) -> Callable[[int], bytes]:
        """The bytes of so many tokens from a position on."""
        return lambda place: self._tokens.raw(place, count)

    def _places(self, pattern: bytes, count: int, are_alive: Alive | None) -> list[int]:
        """Where suffixes begin with the `count` tokens of `pattern`; a few for all."""
        read = self._reader(count)
        first = self._bisect(pattern, read)
        if first == len(self._suffixes) or read(self._suffixes[first]) != pattern:
            return []
        last = self._bisect(pattern + b"\xff" * self._tokens.width, self._reader(count + 1))  # no token is that large
        if are_alive is not None:
            return self._living(first, last, are_alive)
        step = max(1, (last - first) // MAX_HITS)
        return [self._suffixes[i] for i in range(first, last, step)][:MAX_HITS]

    def _bisect(self, pattern: bytes, read: Callable[[int], bytes]) -> int:
        """Number of the first suffix that begins with `pattern` or what comes behind it."""
        fence = bisect_left(self._fences, pattern)
        low, high = max(0, fence - 1) * _FENCE, min(len(self._suffixes), fence * _FENCE)
        return bisect_left(self._suffixes, pattern, low, high, key=read)

    @cached_property
    def _fences(self) -> list[bytes]:
        """How every so many-th suffix begins. A step of a search among these takes 0.1 us, among suffixes 1.5."""
        return [self._tokens.raw(self._suffixes[i], DEPTH) for i in range(0, len(self._suffixes), _FENCE)]

    def _living(self, first: int, last: int, are_alive: Alive) -> list[int]:
        found: list[int] = []
        for begin in range(first, last, _BLOCK):
            places = self._suffixes.between(begin, min(begin + _BLOCK, last))
            found += places[are_alive(places)][: MAX_HITS - len(found)].tolist()
            if len(found) == MAX_HITS:
                break
        return found

    def _extended(self, wanted: bytes, end: int, start: int, places: Sequence[int]) -> tuple[int, list[int]]:
        """Of the places of the context from `start` to `end`, those that match furthest to the left of it as well."""
        before = [self._common_end(wanted, start, place) for place in places]
        longest = max(before)
        length = end - start
        if length + longest < MIN_MATCH:
            return 0, []
        return length + longest, [p + length for p, b in zip(places, before, strict=True) if b == longest]

    def _common_end(self, wanted: bytes, start: int, place: int) -> int:
        """How many tokens before `wanted[start]` and before `place` are the same."""
        width, count = self._tokens.width, 0
        while count < min(start, place):
            at = (start - count - 1) * width
            if wanted[at : at + width] != self._tokens.raw(place - count - 1, 1):
                break
            count += 1
        return count

    def _encoded(self, context: Sequence[int]) -> bytes:
        unknown = (1 << 8 * self._tokens.width) - 1  # stands nowhere: the largest token is smaller
        shifted = np.array(context, np.int64) + 1
        known = np.where((shifted > 0) & (shifted < unknown), shifted, unknown)
        return Numbers.packed(known.astype(np.uint32), self._tokens.width).tobytes()

    def _common(self, token: int) -> bool:
        return 0 <= token < len(self._is_common) - 1 and bool(self._is_common[token + 1])


def vote(places: Sequence[tuple[Datastore, list[int]]], max_tokens: int) -> list[int]:
    """Up to `max_tokens` ids: each is the one that most of the places agree on that agreed so far. Ties go to the
    smaller id, so that the answer depends on the tokens alone."""
    drafted: list[int] = []
    while places and len(drafted) < max_tokens:
        following = [(store, list(zip(found, store.following(found), strict=True))) for store, found in places]
        counts = Counter(token for _, pairs in following for _, token in pairs)
        token = max(counts, key=lambda t: (counts[t], -t))
        if token < 0:
            break
        drafted.append(token)
        places = [(store, [p + 1 for p, t in pairs if t == token]) for store, pairs in following]
    return drafted


def agreed(places: Sequence[tuple[Datastore, list[int]]], max_tokens: int) -> list[int]:
    """Up to `max_tokens` ids that stand at every one of the places; none where there is one place only."""
    ids: list[int] = []
    while sum(len(found) for _, found in places) > 1 and len(ids) < max_tokens:
        following = {token for store, found in places for token in store.following(found)}
        if len(following) > 1 or following <= {-1}:
            break
        ids += following
        places = [(store, [place + 1 for place in found]) for store, found in places]
    return ids


def counted(places: Sequence[tuple[Datastore, list[int]]]) -> dict[int, int]:
    """How often each token follows, most frequent first."""
    counts = Counter(token for store, found in places for token in store.following(found) if token >= 0)
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def _common(tokens: NDArray[np.uint32]) -> NDArray[np.bool_]:
    """By token (id + 1): whether it is one of the most frequent, which together make up half of the text; the separator
    is."""
    counts = np.bincount(tokens)
    counts[0] = 0
    order = np.argsort(-counts, kind="stable")
    before = np.cumsum(counts[order]) - counts[order]
    is_common = np.zeros(len(counts), np.bool_)
    is_common[order] = before + counts[order] <= counts.sum() * (1 - _LISTED_SHARE)
    is_common[0] = True
    return is_common


def sorted_suffixes(tokens: NDArray[np.uint32], positions: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """`positions` (ascending), ordered by the DEPTH tokens that start there, equal ones by position.

    Each round sorts by the group a suffix has fallen into so far and its next tokens, both in one 64-bit number, which
    is what numpy sorts fastest; only groups of several go on to the next round.
    """
    following, step = _following(tokens)
    order, active = positions.copy(), np.arange(len(positions), dtype=np.uint32)
    group = np.zeros(len(order), np.uint32)
    for depth in range(0, DEPTH, step):
        members = order[active]
        keys = group[active].astype(np.uint64)
        keys <<= np.uint64(32)
        keys |= following[np.minimum(members + np.uint32(depth), np.uint32(len(following) - 1))]
        ranked = np.argsort(keys)
        order[active], keys = members[ranked], keys[ranked]
        is_first, is_last = _group_ends(keys)
        group[active] = active[is_first][np.cumsum(is_first) - 1]
        active = active[~(is_first & is_last)]
        if not len(active):
            break
    tied = np.lexsort((order[active], group[active]))  # groups stay where they are
    order[active] = order[active][tied]
    return order


def _following(tokens: NDArray[np.uint32]) -> tuple[NDArray[np.uint32], int]:
    """For each position the next two tokens as one number, or one where ids don't fit into 16 bits; and how many."""
    if int(tokens.max(initial=0)) >= 1 << 16:
        return np.append(tokens, np.uint32(0)), 1
    following = np.append(tokens, np.uint32(0)) << np.uint32(16)
    following[:-2] |= tokens[1:]
    return following, 2


def _group_ends(keys: NDArray[np.uint64]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which of the sorted keys are the first of their kind, and which the last."""
    differs = np.ones(len(keys) + 1, np.bool_)
    np.not_equal(keys[1:], keys[:-1], out=differs[1:-1])
    return differs[:-1], differs[1:]
