"""Pieces of other open files that look like what is being written. Pure.

What somebody wrote a minute ago isn't in the server's index yet, and is what the next lines are most likely about.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from homespun_lsp.positions import plain_line_ends

_TOKEN = re.compile(r"[A-Za-z_]\w{2,}")
_LINES = 20
"""Of a piece: about what the server's own chunks have."""
_STEP = 10
_REACH_LINES = 200
"""Above and below an edit, or from the top of a file without any."""
_MAX_CHARS = 2_000
_MAX_TOGETHER = 8_000
"""More isn't heard."""
_HERE_LINES = 20
_MIN_SHARED = 3
"""Names; with fewer in common two pieces of code are alike by chance."""
_EDITED = 1.5
"""How much more a piece counts in which somebody has just written."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    path: str
    line: int
    """Where it begins, from 0."""
    text: str
    names: frozenset[str]
    is_edited: bool

    def overlaps(self, other: Piece) -> bool:
        return self.path == other.path and abs(self.line - other.line) < _LINES


@dataclass(frozen=True, kw_only=True)
class Neighbour:
    """Another open file, and what was made of it."""

    path: str
    text: str
    edited_at: tuple[int, ...] = ()
    """Offsets of the latest edits."""

    @cached_property
    def pieces(self) -> tuple[Piece, ...]:
        lines = plain_line_ends(self.text).split("\n")
        edited = [self.text.count("\n", 0, offset) for offset in self.edited_at]
        return tuple(
            Piece(path=self.path, line=start, text=text, names=names_of(text), is_edited=is_edited)
            for start, text, is_edited in _windows(lines, edited)
        )


def best_pieces(neighbours: Iterable[Neighbour], prefix: str, count: int) -> Sequence[Piece]:
    """The pieces that share most with the lines before the cursor, best first, none twice in part; among equals that of
    the file that comes first."""
    here = names_of("\n".join(prefix.split("\n")[-_HERE_LINES:]))
    alike = [piece for n in neighbours for piece in n.pieces if len(piece.names & here) >= _MIN_SHARED]
    chosen: list[Piece] = []
    left = _MAX_TOGETHER
    for piece in sorted(alike, key=lambda p: -_likeness(p, here)):
        if len(chosen) < count and len(piece.text) <= left and not any(map(piece.overlaps, chosen)):
            chosen.append(piece)
            left -= len(piece.text)
    return chosen


def _likeness(piece: Piece, here: frozenset[str]) -> float:
    """Share of common names among all (Jaccard), as the server's reranker has it for chunks without statistics."""
    shared = len(piece.names & here) / max(1, len(piece.names | here))
    return shared * _EDITED if piece.is_edited else shared


def _windows(lines: Sequence[str], edited: Sequence[int]) -> Iterator[tuple[int, str, bool]]:
    around = edited or [0]
    first, last = max(0, min(around) - _REACH_LINES), max(around) + _REACH_LINES
    for start in range(first, min(last, len(lines)), _STEP):
        text = "\n".join(lines[start : start + _LINES]).strip("\n")
        if text.strip() and len(text) <= _MAX_CHARS:
            yield start, text, any(start <= line < start + _LINES for line in edited)


def names_of(text: str) -> frozenset[str]:
    return frozenset(_TOKEN.findall(text))
