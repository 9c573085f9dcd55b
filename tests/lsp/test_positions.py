"""Positions and incremental edits, against an editor that is written differently: by encoding instead of counting."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lsprotocol import types

from homespun_lsp.documents import Document
from homespun_lsp.positions import Encoding, LineIndex, Position

ENCODINGS: tuple[Encoding, ...] = ("utf-8", "utf-16", "utf-32")
UNIT_BYTES = {"utf-8": 1, "utf-16-le": 2, "utf-32-le": 4}

pieces = st.sampled_from(["a", "é", "漢", "😀", "👩‍👩‍👧", "\t", " ", "\f", "\v", "\u2028", "\x85", "\n", "\r\n", "\r"])
texts = st.lists(pieces, max_size=20).map("".join)
encodings = st.sampled_from(ENCODINGS)


def inside_line_end(text: str, offset: int) -> bool:
    return text[offset - 1 : offset + 1] == "\r\n" if offset else False


def offsets(text: str) -> list[int]:
    """Where an editor can put its cursor."""
    return [offset for offset in range(len(text) + 1) if not inside_line_end(text, offset)]


def editor_position(text: str, offset: int, encoding: Encoding) -> Position:
    lines = re.split("\r\n|\r|\n", text[:offset])
    codec = encoding if encoding == "utf-8" else f"{encoding}-le"
    return Position(len(lines) - 1, len(lines[-1].encode(codec)) // UNIT_BYTES[codec])


@given(texts, encodings)
def test_every_offset_has_the_position_an_editor_gives_it_and_comes_back_from_it(text: str, encoding: Encoding) -> None:
    index = LineIndex(text)
    for offset in offsets(text):
        position = index.position(offset, encoding)
        assert position == editor_position(text, offset, encoding)
        assert index.offset(position, encoding) == offset


edits = st.lists(st.tuples(st.integers(0, 99), st.integers(0, 99), texts), max_size=6)


@given(texts, edits, encodings)
def test_incremental_edits_give_the_text_the_editor_has(
    text: str, edits: list[tuple[int, int, str]], encoding: Encoding
) -> None:
    document = Document(uri="file:///a", language="c", version=1, text=text, encoding=encoding)
    for first, second, new in edits:
        places = offsets(text)
        start, end = sorted((places[first % len(places)], places[second % len(places)]))
        where = types.Range(start=at(text, start, encoding), end=at(text, end, encoding))
        change = types.TextDocumentContentChangePartial(range=where, text=new)
        document = document.edited(document.edit_of(change))
        text = text[:start] + new + text[end:]
        assert document.text == text


def at(text: str, offset: int, encoding: Encoding) -> types.Position:
    line, character = editor_position(text, offset, encoding)
    return types.Position(line=line, character=character)


@pytest.mark.parametrize(
    ("text", "line", "character", "offset"),
    [
        ("ab\r\ncd", 0, 99, 2),  # beyond the end of a line, but not into its terminator
        ("ab\ncd", 1, 99, 5),
        ("ab\ncd", 99, 0, 5),
        ("ab\n", 1, 0, 3),
        ("", 0, 0, 0),
        ("a😀b", 0, 2, 1),  # in the middle of a character that UTF-16 writes as two units
        ("a\ud83db", 0, 2, 2),  # half an emoji alone is one unit
    ],
)
def test_impossible_positions_mean_the_nearest_possible_place_before(
    text: str, line: int, character: int, offset: int
) -> None:
    assert LineIndex(text).offset(Position(line, character), "utf-16") == offset


def test_a_change_without_a_range_replaces_everything() -> None:
    document = Document(uri="file:///a", language="c", version=1, text="old", encoding="utf-16")
    change = types.TextDocumentContentChangeWholeDocument(text="new")
    assert document.edited(document.edit_of(change)).text == "new"
