"""BM25 over the words of code: whole identifiers and their parts (`get_userName` -> get_username, get, user, name).

Own code, since the segments of one index are scored together: a term's weight comes from all of them, while what a
document contributes depends on that document alone and never changes. bm25s bakes the first into the second; tantivy
has segments of its own, which don't go with ours (benchmarks/search_peers.py compares all three).
"""

from __future__ import annotations

import operator
import re
import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

_WORD = re.compile(r"\b[^\W\d]\w+")
_PART = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[^\W\dA-Za-z_]+")
_MAX_WORD = 64
"""Longer words are data; Tabby cuts at the same length."""

K1, B = 1.2, 0.75
AVERAGE_TERMS = 150
"""Instead of the mean of the corpus, which would change every document's score with every document. Chunks are cut to
one size, so the mean hardly differs between repositories."""
_FULL = 255
"""Contributions are kept as shares of the largest possible one, K1 + 1, in a byte: 0.4 % of rounding."""
_COMMON_SHARE = 6
"""A term in more than one document of six has one byte for each document instead of three for each that holds it: about
as small, and added up eight times faster."""
_IN_COLUMN = 32
"""Scores are laid out in columns of so many, whose bests are fewer to sort."""


def words(text: str) -> list[str]:
    """Identifiers and keywords as they stand, in order."""
    found: list[str] = _WORD.findall(text)
    return found if len(text) <= _MAX_WORD else [word for word in found if len(word) <= _MAX_WORD]


@lru_cache(maxsize=200_000)
def terms_of(word: str) -> tuple[str, ...]:
    """The identifier in lower case, and its parts of at least two letters where it has several."""
    if len(word) > _MAX_WORD:
        return ()
    whole = word.lower()
    parts = [part.lower() for part in _PART.findall(word) if len(part) > 1]
    return (whole, *(p for p in parts if p != whole)) if len(parts) > 1 else (whole,)


def terms(text: str) -> list[str]:
    return [term for word in words(text) for term in terms_of(word)]


@lru_cache(maxsize=200_000)
def term_hash(term: str) -> int:
    """64 bits stand for a term on disk: a million terms collide once in 40 million indexes."""
    return int.from_bytes(blake2b(term.encode(), digest_size=8).digest(), "little")


@dataclass(frozen=True, slots=True)
class Rows:
    """Where terms are found: each among the rare ones, the common ones, or (-1 in both) nowhere."""

    rare: NDArray[np.int64]
    common: NDArray[np.int64]

    def those(self, chosen: NDArray[np.bool_]) -> Rows:
        return Rows(self.rare[chosen], self.common[chosen])


class Postings:
    """Which documents hold which terms, and what each contributes. Documents are numbered as they were given;
    read-only.

    Rare terms have lists of documents, sorted; common ones a row with a byte for every document.
    """

    def __init__(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        self._hashes = arrays["term_hashes"]
        self._starts, self._documents, self._impacts = (
            arrays["term_starts"],
            arrays["term_docs"],
            arrays["term_impacts"],
        )
        self._common_hashes, self._common = arrays["common_hashes"], arrays["common_impacts"]
        self._common_counts = arrays["common_counts"]
        self.num_documents = self._common.shape[1]

    @staticmethod
    def build(documents: Iterable[str]) -> dict[str, NDArray[Any]]:
        """The arrays for documents given as texts; words are told apart once for all of them."""
        numbers: defaultdict[str, int] = defaultdict()
        numbers.default_factory = numbers.__len__
        texts = [np.fromiter(map(numbers.__getitem__, _WORD.findall(text)), np.int32) for text in documents]
        lengths = np.fromiter(map(len, texts), np.int64, len(texts))
        word_ids = np.concatenate([np.zeros(0, np.int32), *texts])
        holders = np.repeat(np.arange(len(texts), dtype=np.int32), lengths)
        return _inverted(list(numbers), word_ids, holders, len(texts))

    def find(self, hashes: NDArray[np.uint64]) -> Rows:
        return Rows(rare=_rows(self._hashes, hashes), common=_rows(self._common_hashes, hashes))

    def counts(self, rows: Rows, alive: NDArray[np.bool_] | None) -> NDArray[np.int64]:
        """In how many living documents each term stands; None for `alive` means all."""
        rare, common = np.flatnonzero(rows.rare >= 0), np.flatnonzero(rows.common >= 0)
        starts, ends = self._starts[rows.rare[rare]], self._starts[rows.rare[rare] + 1]
        found = np.zeros(len(rows.rare), np.int64)
        if alive is None:
            found[rare], found[common] = ends - starts, self._common_counts[rows.common[common]]
        else:
            found[rare] = [np.count_nonzero(alive[self._documents[a:b]]) for a, b in zip(starts, ends, strict=True)]
            found[common] = np.count_nonzero(self._common[rows.common[common]][:, alive], axis=1)
        return found

    def scores(self, rows: Rows, weights: NDArray[np.float64]) -> NDArray[np.float64]:
        """Sum over the terms of weight times contribution (0 to K1 + 1), for every document. In double precision, so
        that the order of adding up, which differs between segments, doesn't show."""
        scaled = weights * ((K1 + 1) / _FULL)
        common = rows.common >= 0
        # Not a matrix product: that wakes up BLAS's threads, which on a busy machine costs more than all of this.
        scores: NDArray[np.float64] = np.einsum("i,ij->j", scaled[common], self._common[rows.common[common]])
        rare = np.flatnonzero(rows.rare >= 0)
        starts, ends = self._starts[rows.rare[rare]].tolist(), self._starts[rows.rare[rare] + 1].tolist()
        if lists := list(map(slice, starts, ends)):
            held = np.concatenate([self._documents[found] for found in lists])
            impacts = np.concatenate([self._impacts[found] for found in lists], dtype=np.float64)
            impacts *= np.repeat(scaled[rare], list(map(operator.sub, ends, starts)))
            scores += np.bincount(held, impacts, self.num_documents)
        return scores


def weight_of(counts: NDArray[np.int64], num_documents: int) -> NDArray[np.float64]:
    """BM25's inverse document frequency for terms in so many of all documents; 0 for those in none."""
    weights: NDArray[np.float64] = np.log(1 + (num_documents - counts + 0.5) / (counts + 0.5))
    return np.where(counts > 0, weights, 0.0)


def best(scores: NDArray[np.float64], limit: int, tolerance: float) -> NDArray[np.int64]:
    """The documents with the best scores above 0, in order of number, and all that are as good as the last of them."""
    columns = len(scores) // _IN_COLUMN
    # So many columns hold one that is as good; nearly all documents are worse, and needn't be sorted.
    reached = _last_of(scores[: columns * _IN_COLUMN].reshape(_IN_COLUMN, columns).max(axis=0), limit) if columns else 0
    documents = np.flatnonzero(scores >= max(reached - tolerance, sys.float_info.min))
    found = scores[documents]
    return documents[found >= _last_of(found, limit) - tolerance]


def _last_of(scores: NDArray[np.float64], limit: int) -> float:
    """The `limit`-th best; 0 if there are fewer."""
    return float(np.partition(scores, -limit)[-limit]) if len(scores) > limit else 0.0


def _inverted(
    vocabulary: Sequence[str], word_ids: NDArray[np.int32], documents: NDArray[np.int32], num_documents: int
) -> dict[str, NDArray[Any]]:
    """From words in documents to documents of terms."""
    terms_by_word = [terms_of(word) for word in vocabulary]
    numbers = {term: i for i, term in enumerate(dict.fromkeys(chain.from_iterable(terms_by_word)))}
    flat = np.fromiter((numbers[t] for ts in terms_by_word for t in ts), np.int32)
    lengths = np.fromiter(map(len, terms_by_word), np.int64, len(terms_by_word))
    repeats = lengths[word_ids]
    term_ids = flat[_ranges((np.cumsum(lengths) - lengths)[word_ids], repeats)]
    documents = np.repeat(documents, repeats)
    lengths_of_documents = np.bincount(documents, minlength=num_documents)
    hashes = np.fromiter(map(term_hash, numbers), np.uint64, len(numbers))
    order = np.argsort(hashes)
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    keys, counts = np.unique(rank[term_ids] * max(1, num_documents) + documents, return_counts=True)
    columns, holders = np.divmod(keys, max(1, num_documents))
    norm = K1 * (1 - B + B * lengths_of_documents[holders] / AVERAGE_TERMS)
    impacts = np.maximum(1, np.rint(counts / (counts + norm) * _FULL)).astype(np.uint8)
    return _split_by_share(hashes[order], columns, holders, impacts, num_documents)


def _ranges(starts: NDArray[np.int64], lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """`starts[i] .. starts[i] + lengths[i]` for every i, one after the other."""
    ends = np.cumsum(lengths)
    offsets: NDArray[np.int64] = np.repeat(starts - (ends - lengths), lengths)
    return offsets + np.arange(len(offsets))


def _split_by_share(
    hashes: NDArray[np.uint64],
    columns: NDArray[np.int64],
    documents: NDArray[np.int64],
    impacts: NDArray[np.uint8],
    num_documents: int,
) -> dict[str, NDArray[Any]]:
    sizes = np.bincount(columns, minlength=len(hashes))
    is_common = sizes * _COMMON_SHARE > num_documents
    is_common &= num_documents >= _COMMON_SHARE
    row = np.cumsum(is_common) - 1
    table = np.zeros((int(is_common.sum()), num_documents), np.uint8)
    chosen = is_common[columns]
    table[row[columns[chosen]], documents[chosen]] = impacts[chosen]
    kept = ~chosen
    starts = np.concatenate([[0], np.cumsum(sizes[~is_common])])
    return {
        "term_hashes": hashes[~is_common],
        "term_starts": starts.astype(np.uint32),
        "term_docs": documents[kept].astype(np.uint16 if num_documents <= 1 << 16 else np.uint32),
        "term_impacts": impacts[kept],
        "common_hashes": hashes[is_common],
        "common_counts": sizes[is_common].astype(np.uint32),
        "common_impacts": table,
    }


def _rows(known: NDArray[np.uint64], wanted: NDArray[np.uint64]) -> NDArray[np.int64]:
    if not len(known):
        return np.full(len(wanted), -1)
    found = np.minimum(np.searchsorted(known, wanted), len(known) - 1)
    return np.where(known[found] == wanted, found, -1)
