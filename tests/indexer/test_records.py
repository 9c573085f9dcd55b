"""What is known of a file comes back from its bytes as it was."""

from __future__ import annotations

import dataclasses
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homespun_indexer import records
from homespun_indexer.chunks import ChunkedFile, Piece, Symbol, chunk_file
from homespun_indexer.imports import Import
from tests.repos import SHOP

NAMES = st.text(max_size=12)
LINES = st.integers(1, 100_000)
PIECES = st.builds(
    Piece,
    start_line=LINES,
    end_line=LINES,
    scope=st.lists(NAMES, max_size=3).map(tuple),
    defines=st.lists(NAMES, max_size=3).map(tuple),
)
SYMBOLS = st.builds(Symbol, name=NAMES, line=LINES, signature=NAMES, end_line=LINES, parent=NAMES)


def imports() -> st.SearchStrategy[Import]:
    return st.from_type(Import)


FILES = st.builds(
    ChunkedFile,
    pieces=st.lists(PIECES, max_size=4).map(tuple),
    symbols=st.lists(SYMBOLS, max_size=4).map(tuple),
    imports=st.lists(imports(), max_size=4).map(tuple),
)


@given(FILES)
def test_a_file_comes_back_as_it_was(file: ChunkedFile) -> None:
    assert records.unpack(records.pack(file)) == file


def test_the_shop_comes_back_as_it_was() -> None:
    for path, text in SHOP.items():
        file = chunk_file(text, "typescript" if path.endswith(".ts") else "python")
        back = records.unpack(records.pack(file))
        assert back == file
        assert all(isinstance(piece.scope, tuple) for piece in back.pieces)


FILE = chunk_file(SHOP["shop/basket.py"], "python")


@pytest.mark.parametrize(
    "packed",
    [
        b"",
        b"not json",
        b"\xff\xfe",
        b"{}",
        b"3",
        b"[]",
        b"[[], []]",
        b"[[], [], [], []]",
        b"[[[1, 2, []]], [], []]",
        b"[[], [[1]], []]",
        b"[[3], [], []]",
        records.pack(FILE)[:-1],
    ],
)
def test_bytes_that_are_something_else_are_refused(packed: bytes) -> None:
    with pytest.raises((ValueError, TypeError)):
        records.unpack(packed)


def test_the_bytes_are_json_in_the_order_of_the_fields() -> None:
    rows = json.loads(records.pack(FILE))
    first = dataclasses.astuple(FILE.symbols[0])
    assert rows[1][0] == list(first)
