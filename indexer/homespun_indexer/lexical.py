"""BM25 over the words of code: whole identifiers and their parts (`get_userName` -> get_username, get, user, name)."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import bm25s
import numpy as np
from numpy.typing import NDArray

logging.getLogger("bm25s").setLevel(logging.WARNING)  # it sets itself to DEBUG

_WORD = re.compile(r"\b[^\W\d]\w+")
_PART = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[^\W\dA-Za-z_]+")
_MAX_WORD = 64
"""Longer words are data; Tabby cuts at the same length."""


def words(text: str) -> list[str]:
    """Identifiers and keywords as they stand, in order."""
    return [word for word in _WORD.findall(text) if len(word) <= _MAX_WORD]


@lru_cache(maxsize=200_000)
def terms_of(word: str) -> tuple[str, ...]:
    """The identifier in lower case, and its parts of at least two letters where it has several."""
    whole = word.lower()
    parts = [part.lower() for part in _PART.findall(word) if len(part) > 1]
    return (whole, *(p for p in parts if p != whole)) if len(parts) > 1 else (whole,)


def terms(text: str) -> list[str]:
    return [term for word in words(text) for term in terms_of(word)]


class LexicalIndex:
    """Documents are numbered as they were given. Safe for concurrent reading."""

    def __init__(self, scores: Mapping[str, NDArray[Any]], vocabulary: Mapping[str, int], num_documents: int) -> None:
        self._data, self._indices, self._indptr = scores["data"], scores["indices"], scores["indptr"]
        self._vocabulary = vocabulary
        self._num_documents = num_documents

    @staticmethod
    def build(documents: Iterable[Sequence[str]]) -> LexicalIndex:
        vocabulary: dict[str, int] = {}
        ids = [[vocabulary.setdefault(term, len(vocabulary)) for term in document] for document in documents]
        ids = [document or [vocabulary.setdefault("", len(vocabulary))] for document in ids]
        bm25 = bm25s.BM25(k1=1.2, b=0.75)
        bm25.index((ids, vocabulary), show_progress=False)
        return LexicalIndex(bm25.scores, vocabulary, len(ids))

    def save(self, folder: Path) -> None:
        folder.mkdir()
        for name, array in (("data", self._data), ("indices", self._indices), ("indptr", self._indptr)):
            np.save(folder / f"{name}.npy", array)
        text = json.dumps({"documents": self._num_documents, "vocabulary": list(self._vocabulary)}, ensure_ascii=False)
        (folder / "vocabulary.json").write_text(text, encoding="utf-8")

    @staticmethod
    def load(folder: Path) -> LexicalIndex:
        arrays = {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in ("data", "indices", "indptr")}
        stored = json.loads((folder / "vocabulary.json").read_text(encoding="utf-8"))
        vocabulary = {term: i for i, term in enumerate(stored["vocabulary"])}
        return LexicalIndex(arrays, vocabulary, stored["documents"])

    def scores(self, weights: Mapping[str, float]) -> NDArray[np.float32]:
        """BM25 of every document for a query of weighted terms; unknown terms count nothing.

        bm25s computes the matrix and could score, too, but not with a weight per term.
        """
        scores = np.zeros(self._num_documents, dtype=np.float32)
        for term, weight in weights.items():
            column = self._vocabulary.get(term)
            if column is not None:
                start, end = int(self._indptr[column]), int(self._indptr[column + 1])
                scores[self._indices[start:end]] += weight * self._data[start:end]
        return scores

    def rarity(self, term: str) -> float:
        """Share of documents without the term: 1 for unknown ones, 0 for one that stands everywhere."""
        column = self._vocabulary.get(term)
        if column is None:
            return 1.0
        return 1.0 - float(self._indptr[column + 1] - self._indptr[column]) / max(1, self._num_documents)
