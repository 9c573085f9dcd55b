"""What stood in the code after the longest context that matches: drafts for speculative decoding.

The token ids of all files, with a separator between them, and a suffix array over them. Suffixes are ordered by their
first DEPTH tokens only: contexts that match longer than that aren't told apart, and building takes five sorts instead
of twenty.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

DEPTH = 32
"""Tokens of context compared at most; a power of two."""
MIN_MATCH = 3
"""Shorter contexts say too little about what follows."""
MAX_HITS = 64
SEPARATOR = -1


class Datastore:
    """Safe for concurrent reading."""

    def __init__(self, tokens: NDArray[np.int32], suffixes: NDArray[np.int32]) -> None:
        self._tokens = tokens
        self._suffixes = suffixes

    @staticmethod
    def build(files: Sequence[NDArray[np.int32]]) -> Datastore:
        separator = np.array([SEPARATOR], dtype=np.int32)
        tokens = np.concatenate([separator, *(part for ids in files for part in (ids, separator))]).astype(np.int32)
        return Datastore(tokens, suffix_array(tokens, DEPTH))

    def save(self, folder: Path) -> None:
        folder.mkdir()
        np.save(folder / "tokens.npy", self._tokens)
        np.save(folder / "suffixes.npy", self._suffixes)

    @staticmethod
    def load(folder: Path) -> Datastore:
        return Datastore(np.load(folder / "tokens.npy", mmap_mode="r"), np.load(folder / "suffixes.npy", mmap_mode="r"))

    @property
    def num_tokens(self) -> int:
        return len(self._tokens)

    def draft(self, ids: Sequence[int], max_tokens: int) -> list[int]:
        """Up to `max_tokens` ids that followed the longest suffix of `ids` found anywhere; empty when that is too
        short.

        Where it was found several times, each next token is the one that most of the places agree on that agreed so
        far.
        """
        length, start, end = self._longest_match(np.asarray(ids[-DEPTH:], dtype=np.int32))
        if length < MIN_MATCH or max_tokens <= 0:
            return []
        step = max(1, (end - start) // MAX_HITS)
        places = self._suffixes[start:end:step][:MAX_HITS].astype(np.int64) + length
        return self._vote(places, max_tokens)

    def _vote(self, places: NDArray[np.int64], max_tokens: int) -> list[int]:
        drafted: list[int] = []
        while len(drafted) < max_tokens:
            following = self._tokens[places]
            # Ties go to the smaller id, so that the answer depends on the tokens alone.
            token, _ = max(Counter(following.tolist()).items(), key=lambda item: (item[1], -item[0]))
            if token == SEPARATOR:
                break
            drafted.append(token)
            places = places[following == token] + 1
        return drafted

    def _longest_match(self, context: NDArray[np.int32]) -> tuple[int, int, int]:
        """(length, start, end): the longest suffix of `context` that occurs, and its range in the suffix array.

        If a suffix occurs, so do all shorter ones: the length is found by bisection.
        """
        best = (0, 0, 0)
        low, high = MIN_MATCH, len(context)
        while low <= high:
            middle = (low + high) // 2
            start, end = self._range(context[len(context) - middle :])
            if start < end:
                best, low = (middle, start, end), middle + 1
            else:
                high = middle - 1
        return best

    def _range(self, pattern: NDArray[np.int32]) -> tuple[int, int]:
        """Where the suffixes that begin with `pattern` stand."""
        if bool((pattern < 0).any()):
            return 0, 0
        wanted = pattern.tolist()
        start = self._bisect(wanted, before=True)
        return start, self._bisect(wanted, before=False)

    def _bisect(self, wanted: list[int], *, before: bool) -> int:
        low, high = 0, len(self._suffixes)
        while low < high:
            middle = (low + high) // 2
            place = int(self._suffixes[middle])
            found = self._tokens[place : place + len(wanted)].tolist()
            if found < wanted or (not before and found == wanted):
                low = middle + 1
            else:
                high = middle
        return low


def suffix_array(tokens: NDArray[np.int32], depth: int) -> NDArray[np.int32]:
    """Positions ordered by the `depth` tokens that start there, equal ones by position. Prefix doubling: each round
    orders by twice as many tokens, from the ranks of the round before."""
    ranks = np.unique(tokens, return_inverse=True)[1].astype(np.int64)
    length = 1
    while length < depth:
        following = np.zeros_like(ranks)
        following[:-length] = ranks[length:] + 1  # past the end comes before everything
        keys = ranks * (int(ranks.max(initial=0)) + 2) + following
        order = np.argsort(keys)
        ranks = _ranked(keys, order)
        if int(ranks.max(initial=0)) == len(tokens) - 1:  # all different: deeper rounds change nothing
            break
        length *= 2
    # Ties by position; as part of the key, since numpy's fastest sort isn't stable.
    return np.argsort(ranks * max(1, len(tokens)) + np.arange(len(tokens))).astype(np.int32)


def _ranked(keys: NDArray[np.int64], order: NDArray[np.int64]) -> NDArray[np.int64]:
    ordered = keys[order]
    ranks = np.empty_like(keys)
    ranks[order] = np.concatenate([[0], np.cumsum(ordered[1:] != ordered[:-1])])
    return ranks
