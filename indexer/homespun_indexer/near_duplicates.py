"""Texts that say nearly the same: MinHash over shingles of five tokens finds candidates, exact Jaccard similarity
decides. In numpy throughout: 10,000 files take seconds.

Files made from one template are all candidates of one another: a bound on the similarity, for many at once, passes
over most of them (`benchmarks/LOG.md`, 2026-11-30).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from itertools import compress

import numpy as np
from numpy.typing import NDArray

THRESHOLD = 0.7
_SHINGLE = 5
_BANDS, _ROWS = 16, 4
"""Two texts at the threshold share a band with a probability of 1 - (1 - 0.7^4)^16 = 98.8 %. Pairs that share one by
chance cost a comparison and nothing else, so there are fewer rows than where MinHash has the last word."""
_MIN_SHINGLES = 20
"""Below, a few common lines would make any two files alike."""
_MIN_AGREEMENT = 0.5
"""Of the hashes: at a similarity of 0.7, one of 64 agrees less with a probability of 0.1 %."""
_BLOCK = 1 << 14
_AT_ONCE = 256
"""Candidates whose shingles are looked up together."""

_Hashes = NDArray[np.uint64]
_Hashed = tuple[_Hashes, _Hashes]
"""Shingles and signature."""
_WORD = np.zeros(256, bool)
_WORD[[*b"0123456789_abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ", *range(128, 256)]] = True
_SPACE = np.zeros(256, bool)
_SPACE[[*b" \t\n\r\f\v"]] = True
_BASE = 0x9E3779B97F4A7C15  # odd, so that it has an inverse modulo 2^64
_INVERSE = pow(_BASE, -1, 1 << 64)
_FACTORS = np.random.default_rng(7).integers(1 << 63, size=_BANDS * _ROWS, dtype=np.uint64) * np.uint64(2) + np.uint64(
    1
)


def near_duplicates(texts: Iterable[str]) -> Iterator[int | None]:
    """For each text the number of the first kept one that it nearly equals, or None: it is kept itself. So the order
    says which of several is the best."""
    kept = _Kept()
    for number, text in enumerate(texts):
        hashed = _hashed(text)
        twin = kept.twin(hashed) if hashed else None
        if hashed and twin is None:
            kept.add(number, hashed)
        yield twin


def near_copies(originals: Iterable[str], others: Iterable[str]) -> Iterator[bool]:
    """For each of the others whether it nearly equals one of the originals."""
    kept = _Kept()
    for number, text in enumerate(originals):
        if hashed := _hashed(text):
            kept.add(number, hashed)
    for text in others:
        hashed = _hashed(text)
        yield hashed is not None and kept.twin(hashed) is not None


def similarity(one: str, other: str) -> float:
    """Jaccard similarity of two texts' shingles; 0 where one of them has none."""
    return _jaccard(_shingles(one), _shingles(other))


class _Kept:
    """Texts that others are held against, by number."""

    def __init__(self) -> None:
        self._texts: dict[int, _Hashed] = {}
        self._low: dict[int, NDArray[np.uint16]] = {}
        self._buckets: list[defaultdict[bytes, list[int]]] = [defaultdict(list) for _ in range(_BANDS)]

    def add(self, number: int, hashed: _Hashed) -> None:
        self._texts[number], self._low[number] = hashed, _low(hashed[0])
        for bucket, key in zip(self._buckets, _keys(hashed), strict=True):
            bucket[key].append(number)

    def twin(self, hashed: _Hashed) -> int | None:
        found = sorted(
            {n for bucket, key in zip(self._buckets, _keys(hashed), strict=True) for n in bucket.get(key, ())}
        )
        blocks = (found[i : i + _AT_ONCE] for i in range(0, len(found), _AT_ONCE))
        possible = (n for block in blocks for n in self._possible(hashed[0], block))
        return next((n for n in possible if _is_near(hashed, self._texts[n])), None)

    def _possible(self, shingles: _Hashes, numbers: Sequence[int]) -> Iterator[int]:
        """Those whose similarity may reach the threshold. A shingle counts as shared where its low 16 bits are those
        of one of `shingles`: that can be too many and never too few, so nothing near is passed over."""
        has = np.zeros(1 << 16, np.uint8)
        has[_low(shingles)] = 1
        lows = [self._low[n] for n in numbers]
        sizes = np.array([len(low) for low in lows])
        both = np.add.reduceat(has.take(np.concatenate(lows)), np.cumsum(sizes) - sizes, dtype=np.int64)
        most = np.minimum(both, len(shingles))
        return compress(numbers, most / (len(shingles) + sizes - most) >= THRESHOLD)


def _hashed(text: str) -> _Hashed | None:
    """None of a text that is too short to be nearly another."""
    shingles = _shingles(text)
    return (shingles, _signature(shingles)) if len(shingles) >= _MIN_SHINGLES else None


def _keys(hashed: _Hashed) -> list[bytes]:
    return [hashed[1][i : i + _ROWS].tobytes() for i in range(0, len(hashed[1]), _ROWS)]


def _low(shingles: _Hashes) -> NDArray[np.uint16]:
    return shingles.astype(np.uint16)


def _is_near(one: _Hashed, other: _Hashed) -> bool:
    agreement = int(np.count_nonzero(one[1] == other[1]))
    return agreement >= _MIN_AGREEMENT * len(one[1]) and _jaccard(one[0], other[0]) >= THRESHOLD


def _jaccard(one: _Hashes, other: _Hashes) -> float:
    both = len(np.intersect1d(one, other, assume_unique=True))
    return both / (len(one) + len(other) - both) if both else 0.0


def _shingles(text: str) -> _Hashes:
    """Hashes of every five tokens (words, and other characters one by one), sorted, each once."""
    tokens = _tokens(np.frombuffer(text.encode("utf-8", "surrogatepass"), np.uint8))
    if len(tokens) < _SHINGLE:
        return tokens[:0]
    joined = np.zeros(len(tokens) - _SHINGLE + 1, np.uint64)
    for i in range(_SHINGLE):
        joined = joined * np.uint64(_BASE) + tokens[i : len(joined) + i]
    return np.unique(_mixed(joined))


def _tokens(text: NDArray[np.uint8]) -> _Hashes:
    """A hash of each token: a polynomial over its bytes, from differences of running sums (all modulo 2^64)."""
    word = _WORD[text]
    inside = np.concatenate(([False], word[1:] & word[:-1])) if len(text) else word
    starts = np.flatnonzero(~_SPACE[text] & ~inside)
    if not len(starts):
        return np.zeros(0, np.uint64)
    ends = np.append(starts[1:], len(text))
    values = np.where(_SPACE[text], 0, text.astype(np.uint64) + np.uint64(1)).astype(np.uint64)
    sums = np.concatenate((np.zeros(1, np.uint64), np.cumsum(values * _powers(_BASE, len(text)), dtype=np.uint64)))
    return _mixed((sums[ends] - sums[starts]) * _powers(_INVERSE, len(text))[starts])


def _powers(base: int, count: int) -> _Hashes:
    factors = np.full(count, base, np.uint64)
    factors[0] = 1
    return np.cumprod(factors, dtype=np.uint64)


def _mixed(values: _Hashes) -> _Hashes:
    """The finaliser of SplitMix64: every bit depends on every other."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def _signature(shingles: _Hashes) -> _Hashes:
    """The least of the shingles in each of several orders."""
    blocks = [shingles[i : i + _BLOCK] for i in range(0, len(shingles), _BLOCK)]
    least: _Hashes = np.min([(_FACTORS[:, None] * block).min(axis=1) for block in blocks], axis=0)
    return least
