"""What is known of a file, as bytes: for the cache and for segments."""

from __future__ import annotations

import json
from dataclasses import fields
from operator import attrgetter
from typing import Any

from homespun_indexer.chunks import ChunkedFile, Piece, Symbol
from homespun_indexer.imports import Import

FORMAT = 5
"""Raise it when the meaning or the order of the fields changes. 3: imports, ends of definitions, nesting judged.
5: LFS pointers judged."""

Rows = list[list[Any]]


def _names(kind: type[Any]) -> tuple[str, ...]:
    return tuple(field.name for field in fields(kind))


_PIECE, _SYMBOL, _IMPORT = _names(Piece), _names(Symbol), _names(Import)
_COLUMNS = attrgetter(*_PIECE), attrgetter(*_SYMBOL), attrgetter(*_IMPORT)


def pack(chunked: ChunkedFile) -> bytes:
    """JSON: rows in the order of the fields."""
    groups = (chunked.pieces, chunked.symbols, chunked.imports)
    rows = [list(map(columns, group)) for columns, group in zip(_COLUMNS, groups, strict=True)]
    return json.dumps(rows, ensure_ascii=False, separators=(",", ":")).encode()


def unpack(packed: bytes) -> ChunkedFile:
    """Raises ValueError or TypeError for bytes that `pack` didn't make."""
    return chunked(rows(packed))


def rows(packed: bytes) -> Rows:
    """Of pieces, symbols and imports."""
    found: Rows = json.loads(packed)
    return found


def chunked(found: Rows) -> ChunkedFile:
    pieces, _, imports = found
    return ChunkedFile(
        pieces=tuple(Piece(start_line=a, end_line=b, scope=tuple(s), defines=tuple(d)) for a, b, s, d in pieces),
        symbols=tuple(symbol(found, number) for number in range(len(found[1]))),
        imports=tuple(Import(**dict(zip(_IMPORT, row, strict=True))) for row in imports),
    )


def symbol(found: Rows, number: int) -> Symbol:
    """One of a file, without looking at the rest."""
    return Symbol(**dict(zip(_SYMBOL, found[1][number], strict=True)))
