"""Static vectors: near for texts of the same words, exact search over them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from homespun_core.errors import ModelError
from homespun_indexer.dense import DenseIndex, Embedder, StaticEmbedder, embedding_table
from homespun_indexer.model_files import builtin_path
from homespun_indexer.tokenizer import GuardedTokenizer

TEXTS = [
    "def read_config(path): return json.load(open(path))",
    "def write_report(rows): print(len(rows))",
    "class Basket: items = []",
    "SELECT name FROM customers WHERE id = 1",
]


@pytest.fixture(scope="module")
def fitted() -> tuple[StaticEmbedder, np.ndarray]:
    tokenizer = GuardedTokenizer((builtin_path() / "tokenizer.json").read_text(encoding="utf-8"))
    documents = [np.asarray(tokenizer.encode(t), np.int32) for t in TEXTS]
    return StaticEmbedder.fit(tokenizer, embedding_table(str(builtin_path())), documents)


def test_vectors_have_unit_length_and_are_those_of_their_text(fitted: tuple[Embedder, np.ndarray]) -> None:
    embedder, vectors = fitted
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert np.allclose(embedder.embed(TEXTS), vectors, atol=1e-5)


def test_a_text_is_nearest_to_its_own_words(fitted: tuple[Embedder, np.ndarray], tmp_path: Path) -> None:
    embedder, vectors = fitted
    DenseIndex.build(vectors).save(tmp_path / "v.faiss")
    index = DenseIndex.load(tmp_path / "v.faiss")
    for number, text in enumerate(TEXTS):
        found = index.search(embedder.embed([text])[0], 2)
        assert found[0][0] == number
        assert found[0][1] >= found[1][1]
    assert len(index.search(embedder.embed(["x"])[0], 10)) == len(TEXTS)


def test_it_comes_back_from_disk_as_it_was(fitted: tuple[StaticEmbedder, np.ndarray], tmp_path: Path) -> None:
    embedder = fitted[0]
    embedder.save(tmp_path)
    tokenizer = GuardedTokenizer((builtin_path() / "tokenizer.json").read_text(encoding="utf-8"))
    loaded = StaticEmbedder.load(tmp_path, tokenizer, embedding_table(str(builtin_path())))
    assert np.array_equal(loaded.embed(TEXTS), embedder.embed(TEXTS))
    assert loaded.digest == embedder.digest


@pytest.mark.parametrize("dtype", ["F32", "F16", "BF16"])
def test_tables_are_read_in_every_number_format(tmp_path: Path, dtype: str) -> None:
    values = np.array([[1.0, -2.0], [0.5, 3.0]], np.float32)
    raw = {
        "F32": values.tobytes(),
        "F16": values.astype(np.float16).tobytes(),
        "BF16": (values.view(np.uint32) >> 16).astype(np.uint16).tobytes(),
    }[dtype]
    entry = {"dtype": dtype, "shape": [2, 2], "data_offsets": [0, len(raw)]}
    header = json.dumps({"__metadata__": {}, "model.embed_tokens.weight": entry}).encode()
    (tmp_path / "m.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + raw)
    assert np.array_equal(embedding_table(str(tmp_path)), values)


def test_a_model_without_embeddings_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no token embeddings"):
        embedding_table(str(tmp_path))
