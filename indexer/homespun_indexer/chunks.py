"""A file cut into chunks: whole lines, along the syntax where there is a grammar, in windows of lines where there is
none.

Split, then merge, as in cAST (arXiv 2506.15655): a node that is too large is split into its children, neighbours that
fit together are merged. Sizes are in non-blank characters. Together the chunks hold every non-blank line once, in
order.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from tree_sitter import Node

from homespun_core.languages import language_named
from homespun_indexer.imports import Import, in_text
from homespun_indexer.parse import Definition, ParsedFile, parse

MAX_CHARS = 1_200
MAX_LINES = 40
_MAX_SCOPES, _MAX_SCOPE_CHARS = 8, 200
_MAX_DEPTH = 60
"""Deeper nesting is cut by lines; it is generated code, or somebody trying our stack."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """Lines of a chunk (1-based, inclusive) and what is known about them."""

    start_line: int
    end_line: int
    scope: tuple[str, ...]
    defines: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Symbol:
    """A name, and what somebody who uses it would want to see."""

    name: str
    line: int
    signature: str
    """With the signatures of its members, one a line, where it has some."""
    end_line: int = 0
    parent: str = ""
    """Name of the definition around it; "" at top level."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChunkedFile:
    pieces: tuple[Piece, ...]
    symbols: tuple[Symbol, ...]
    imports: tuple[Import, ...] = ()


def chunk_file(text: str, language: str) -> ChunkedFile:
    """`text` has `\\n` line ends."""
    known = language_named(language)
    parsed = parse(text, known) if known else None
    definitions = parsed.definitions() if parsed else []
    sizes = _Sizes(text)
    atoms = _split(parsed, sizes) if parsed else _windows(1, sizes.last_line, sizes)
    spans = [s for s in (_trimmed(start, end, sizes) for start, end in _merged(atoms, sizes)) if s is not None]
    return ChunkedFile(
        pieces=tuple(_pieces(spans, definitions)),
        symbols=tuple(_symbols(definitions)),
        imports=in_text(text, known.name) if known else (),
    )


_ASCII_SPACE = b" \t\r\x0b\x0c\x1c\x1d\x1e\x1f"
_WIDE_SPACE = "\x85\xa0\u1680" + "".join(map(chr, range(0x2000, 0x200B))) + "\u2028\u2029\u202f\u205f\u3000"
_NOT_COUNTED = _ASCII_SPACE + bytes(range(0x80, 0xC0))
"""White space, and the bytes of UTF-8 that continue a character."""


class _Sizes:
    """Non-blank characters of any range of lines."""

    def __init__(self, text: str) -> None:
        if not text.isascii():
            for space in _WIDE_SPACE:
                text = text.replace(space, "")
        counted = np.frombuffer(text.encode().translate(None, _NOT_COUNTED) + b"\n", dtype=np.uint8)
        breaks = np.flatnonzero(counted == ord("\n"))
        self.last_line = len(breaks)
        self._sums: list[int] = [0, *(breaks - np.arange(len(breaks))).tolist()]

    def is_blank(self, line: int) -> bool:
        return self._sums[line] == self._sums[line - 1]

    def fits(self, start: int, end: int) -> bool:
        return end - start < MAX_LINES and self._sums[end] - self._sums[start - 1] <= MAX_CHARS

    def furthest(self, start: int) -> int:
        """The last line of the longest range from `start` that fits: at least `start` itself."""
        most = min(start + MAX_LINES, len(self._sums))
        return max(start, bisect_right(self._sums, self._sums[start - 1] + MAX_CHARS, start, most) - 1)


def _split(parsed: ParsedFile, sizes: _Sizes) -> list[tuple[int, int]]:
    ranges: list[tuple[int, int]] = []
    if sizes.fits(1, sizes.last_line):
        ranges.append((1, sizes.last_line))
    else:
        _split_node(parsed.root, 1, sizes.last_line, _Cut(sizes, parsed.comments, ranges), 0)
    return ranges


@dataclass(frozen=True, slots=True)
class _Cut:
    sizes: _Sizes
    comments: frozenset[int]
    ranges: list[tuple[int, int]]
    """What was cut so far."""


def _split_node(node: Node, start: int, end: int, cut: _Cut, depth: int) -> None:
    """Add ranges that cover lines `start` to `end`, all of which belong to `node` and don't fit in one chunk."""
    parts = _parts(node, start, end, cut.comments) if depth < _MAX_DEPTH else []
    if len(parts) <= 1 and (not parts or parts[0][1] is None):
        parts = [(start, None)]
    for index, (first, child) in enumerate(parts):
        last = parts[index + 1][0] - 1 if index + 1 < len(parts) else end
        if cut.sizes.fits(first, last):
            cut.ranges.append((first, last))
        elif child is None:
            cut.ranges.extend(_windows(first, last, cut.sizes))
        else:
            _split_node(child, first, last, cut, depth + 1)


def _parts(node: Node, start: int, end: int, comments: frozenset[int]) -> list[tuple[int, Node | None]]:
    """(first line, child to split further if it is too large) in order; a comment belongs to what follows it."""
    parts: list[tuple[int, Node | None]] = []
    comment: int | None = None
    covered = start - 1
    for child in node.children:
        first = child.start_point[0] + 1
        row, column = child.end_point
        last = row if column == 0 and row >= first else row + 1  # as `last_row`
        if first < start or first > end or (first <= covered and last <= covered):
            continue
        if child.kind_id in comments:
            comment = comment or max(first, covered + 1)
            continue
        if first > covered:
            parts.append((comment or first, child if last > first else None))
        elif parts and last > first:  # starts on a line that is taken: it can only be split together with that line
            parts[-1] = (parts[-1][0], child)
        comment, covered = None, max(covered, min(last, end))
    if parts:
        parts[0] = (start, parts[0][1])
    return parts


def _windows(start: int, end: int, sizes: _Sizes) -> Iterator[tuple[int, int]]:
    while start <= end:
        last = min(end, sizes.furthest(start))
        yield start, last
        start = last + 1


def _merged(atoms: Iterable[tuple[int, int]], sizes: _Sizes) -> Iterator[tuple[int, int]]:
    start = end = 0
    for first, last in atoms:
        if start and sizes.fits(start, last):
            end = last
            continue
        if start:
            yield start, end
        start, end = first, last
    if start:
        yield start, end


def _trimmed(start: int, end: int, sizes: _Sizes) -> tuple[int, int] | None:
    while start <= end and sizes.is_blank(start):
        start += 1
    while end >= start and sizes.is_blank(end):
        end -= 1
    return (start, end) if start <= end else None


def _pieces(spans: Sequence[tuple[int, int]], definitions: Sequence[Definition]) -> Iterator[Piece]:
    starts = [d.start_line for d in definitions]
    for start, end in spans:
        first, behind = bisect_left(starts, start), bisect_right(starts, end)
        yield Piece(
            start_line=start,
            end_line=end,
            scope=_scope(definitions, first - 1, start),
            defines=tuple(dict.fromkeys([d.name for d in definitions[first:behind]])),
        )


def _scope(definitions: Sequence[Definition], index: int, line: int) -> tuple[str, ...]:
    """Of those that start before `line`, of which `index` is the last, the innermost that contain it, outermost first:
    they are around one another, and so around that last one."""
    scope: list[str] = []
    around = index if index >= 0 else None
    while around is not None:
        if definitions[around].end_line >= line:
            scope.append(definitions[around].scope[:_MAX_SCOPE_CHARS])
        around = definitions[around].parent
    return tuple(reversed(scope[:_MAX_SCOPES]))


_MAX_MEMBERS = 12


def _symbols(definitions: Sequence[Definition]) -> Iterator[Symbol]:
    members: dict[int, list[str]] = {}
    for definition in definitions:
        if definition.parent is not None:
            members.setdefault(definition.parent, []).append(definition.signature)
    for index, definition in enumerate(definitions):
        inner = [f"    {signature}" for signature in members.get(index, ())[:_MAX_MEMBERS]]
        yield Symbol(
            name=definition.name,
            line=definition.start_line,
            end_line=definition.end_line,
            signature="\n".join([definition.signature, *inner]),
            parent="" if definition.parent is None else definitions[definition.parent].name,
        )
