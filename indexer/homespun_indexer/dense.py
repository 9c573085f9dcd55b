"""Chunks as vectors, without a neural network at query time: weighted means of a model's token embeddings.

SIF (Arora et al. 2017): rare tokens weigh more, the component that all vectors share is taken out. It needs no torch,
no GPU and no download, since the built-in model's embedding matrix is there anyway.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Protocol

import faiss
import numpy as np
from numpy.typing import NDArray

from homespun_core.errors import ModelError
from homespun_core.types import Tokenizer

logging.getLogger("faiss.loader").setLevel(logging.WARNING)  # tells which processor features it looked for

Vectors = NDArray[np.float32]

_SIF = 1e-3
_POWER_ITERATIONS = 30
_EMBEDDING_NAMES = ("model.embed_tokens.weight", "transformer.wte.weight")


class Embedder(Protocol):
    """Texts to unit vectors."""

    @property
    def digest(self) -> str:
        """What the vectors depend on: vectors of different digests don't compare."""
        ...

    def embed(self, texts: Sequence[str]) -> Vectors: ...


class StaticEmbedder:
    """`weights` (one a token) and `common` (a direction) come from the corpus: see `fit`."""

    def __init__(self, tokenizer: Tokenizer, table: Vectors, weights: Vectors, common: Vectors) -> None:
        self._tokenizer = tokenizer
        self._table = table
        self._weights = weights
        self._common = common

    @staticmethod
    def fit(
        tokenizer: Tokenizer, table: Vectors, documents: Sequence[NDArray[np.int32]]
    ) -> tuple[StaticEmbedder, Vectors]:
        """The embedder for a corpus given as token ids, and the vectors of its documents."""
        counts = np.bincount(np.concatenate([np.zeros(0, np.int32), *documents]), minlength=len(table)).astype(
            np.float64
        )
        weights = (_SIF / (_SIF + counts / max(1.0, counts.sum()))).astype(np.float32)
        plain = StaticEmbedder(tokenizer, table, weights, np.zeros(table.shape[1], np.float32))
        raw = (
            np.stack([plain.mean(ids) for ids in documents]) if documents else np.zeros((0, table.shape[1]), np.float32)
        )
        embedder = StaticEmbedder(tokenizer, table, weights, _first_component(raw))
        return embedder, embedder.finished(raw)

    @property
    def digest(self) -> str:
        return f"sif-{_SIF}-{self._tokenizer.digest}"

    def embed(self, texts: Sequence[str]) -> Vectors:
        return self.finished(np.stack([self.mean(np.asarray(self._tokenizer.encode(t), np.int32)) for t in texts]))

    def mean(self, ids: NDArray[np.int32]) -> Vectors:
        """Weighted mean over the tokens of a text, unit length; zero for an empty one."""
        kinds, counts = np.unique(ids, return_counts=True)
        vector: Vectors = (self._weights[kinds] * (1 + np.log(counts, dtype=np.float32))) @ self._table[kinds]
        length = max(float(np.linalg.norm(vector)), 1e-9)
        return (vector / length).astype(np.float32)

    def finished(self, raw: Vectors) -> Vectors:
        vectors = raw - np.outer(raw @ self._common, self._common)
        unit: Vectors = (vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)).astype(np.float32)
        return unit

    def save(self, folder: Path) -> None:
        np.save(folder / "weights.npy", self._weights)
        np.save(folder / "common.npy", self._common)

    @staticmethod
    def load(folder: Path, tokenizer: Tokenizer, table: Vectors) -> StaticEmbedder:
        return StaticEmbedder(tokenizer, table, np.load(folder / "weights.npy"), np.load(folder / "common.npy"))


class DenseIndex:
    """Exact inner-product search in half precision: 3 ms for 100,000 chunks, no training, no recall lost."""

    def __init__(self, index: faiss.Index) -> None:
        self._index = index

    @staticmethod
    def build(vectors: Vectors) -> DenseIndex:
        index = faiss.IndexScalarQuantizer(vectors.shape[1], faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT)
        index.train(vectors)
        index.add(vectors)
        return DenseIndex(index)

    def save(self, path: Path) -> None:
        faiss.write_index(self._index, str(path))

    @staticmethod
    def load(path: Path) -> DenseIndex:
        """Check the file's digest first: FAISS loads most damaged files without noticing."""
        return DenseIndex(faiss.read_index(str(path)))

    def search(self, vector: Vectors, limit: int) -> list[tuple[int, float]]:
        """(document, similarity), best first."""
        scores, found = self._index.search(vector.reshape(1, -1), limit)
        return [(int(i), float(s)) for i, s in zip(found[0], scores[0], strict=True) if i >= 0]


@cache
def embedding_table(path: str) -> Vectors:
    """The token embeddings of a model directory as float32. Raises ModelError when no file has them."""
    for file in sorted(Path(path).glob("*.safetensors")):
        table = _read_table(file)
        if table is not None:
            return table
    raise ModelError(f"{path}: has no token embeddings; the built-in model's files are damaged, install it again")


def _read_table(file: Path) -> Vectors | None:
    """By hand: safetensors' numpy side doesn't know bfloat16, which is a float32 without its lower half."""
    with file.open("rb") as handle:
        size = int.from_bytes(handle.read(8), "little")
        header = json.loads(handle.read(size))
        entry = next((header[name] for name in _EMBEDDING_NAMES if name in header), None)
        if entry is None:
            return None
        start, end = entry["data_offsets"]
        handle.seek(8 + size + start)
        raw = handle.read(end - start)
    if entry["dtype"] == "BF16":
        flat = (np.frombuffer(raw, dtype="<u2").astype(np.uint32) << 16).view(np.float32)
    else:
        flat = np.frombuffer(raw, dtype={"F16": "<f2", "F32": "<f4"}[entry["dtype"]]).astype(np.float32)
    return flat.reshape(entry["shape"])


def _first_component(raw: Vectors) -> Vectors:
    """The direction that the vectors share, from their (uncentred) second moments, by power iteration.

    Not numpy's eigh: on a busy machine its threads get in each other's way, 3.5 s instead of 0.02 s.
    """
    direction = raw.mean(axis=0) if len(raw) else np.zeros(raw.shape[1])
    for _ in range(_POWER_ITERATIONS):
        direction = raw.T @ (raw @ direction)
        direction = direction / max(float(np.linalg.norm(direction)), 1e-9)
    common: Vectors = direction.astype(np.float32)
    return common
