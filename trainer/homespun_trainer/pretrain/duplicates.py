"""Files that are nearly the same, found by MinHash over five-word shingles: what stands in training data twice is
learned by heart. Blanks and line breaks don't count, so that exact copies are found too.

Broder, "On the resemblance and containment of documents" (1997); banding as in Leskovec et al., "Mining of Massive
Datasets", chapter 3.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

PERMUTATIONS, _BANDS, _SHINGLE = 60, 12, 5
"""Twelve bands of five rows: at a similarity of 0.8 a pair shares a band with a probability of 99 %."""
SIMILAR = 0.8
"""Estimated Jaccard similarity from which a file counts as a copy."""
_MAX_WORDS = 20_000
_BUCKET = 32
"""Files looked at in one bucket: templates that everything resembles must not make it quadratic."""
_WORD = re.compile(r"\w+|[^\w\s]")
_MIX = np.uint64(0x9E3779B97F4A7C15)
_RANDOM = np.random.default_rng(7)
_FACTORS = _RANDOM.integers(1, 2**63, PERMUTATIONS, dtype=np.uint64) | np.uint64(1)
_OFFSETS = _RANDOM.integers(0, 2**63, PERMUTATIONS, dtype=np.uint64)

Signature = NDArray[np.uint32]


def signature(text: str) -> Signature:
    """PERMUTATIONS numbers; the share that two texts have in common estimates their similarity."""
    words = [zlib.crc32(word.encode("utf-8", "replace")) for word in _WORD.findall(text)[:_MAX_WORDS]]
    hashed = np.array([*words, *[0] * max(0, _SHINGLE - len(words))], dtype=np.uint64)
    count = len(hashed) - _SHINGLE + 1
    shingles = np.zeros(count, np.uint64)
    for i in range(_SHINGLE):
        shingles = shingles * _MIX + hashed[i : i + count]
    shingles = np.unique(shingles ^ (shingles >> np.uint64(29)))
    least = [((shingles * a + b) >> np.uint64(32)).min() for a, b in zip(_FACTORS, _OFFSETS, strict=True)]
    return np.array(least, dtype=np.uint32)


def originals(signatures: Iterable[Signature]) -> list[bool]:
    """For each in order, whether it resembles none that was kept before it."""
    kept: list[Signature] = []
    buckets: dict[bytes, list[int]] = {}
    verdicts = []
    for own in signatures:
        keys = [bytes([i]) + band.tobytes() for i, band in enumerate(own.reshape(_BANDS, -1))]
        near = {candidate for key in keys for candidate in buckets.get(key, ())}
        is_new = all(float((kept[i] == own).mean()) < SIMILAR for i in near)
        verdicts.append(is_new)
        if not is_new:
            continue
        for key in keys:
            bucket = buckets.setdefault(key, [])
            if len(bucket) < _BUCKET:
                bucket.append(len(kept))
        kept.append(own)
    return verdicts
