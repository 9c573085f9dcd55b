"""A file cut into chunks: whole lines, along the syntax where there is a grammar, in windows of lines where there is
none.

Split, then merge, as in cAST (arXiv 2506.15655): a node that is too large is split into its children, neighbours that
fit together are merged. Sizes are in non-blank characters. Together the chunks hold every non-blank line once, in
order.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

from tree_sitter import Node

from homespun_core.languages import language_named
from homespun_indexer.parse import Definition, ParsedFile, last_row, parse

MAX_CHARS = 1_200
MAX_LINES = 40
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


@dataclass(frozen=True, slots=True, kw_only=True)
class ChunkedFile:
    pieces: tuple[Piece, ...]
    symbols: tuple[Symbol, ...]


def chunk_file(text: str, language: str) -> ChunkedFile:
    """`text` has `\\n` line ends."""
    lines = text.split("\n")
    known = language_named(language)
    parsed = parse(text, known) if known else None
    definitions = parsed.definitions() if parsed else []
    sizes = _Sizes(lines)
    atoms = _split(parsed, sizes) if parsed else _windows(1, len(lines), sizes)
    spans = [s for s in (_trimmed(start, end, lines) for start, end in _merged(atoms, sizes)) if s is not None]
    return ChunkedFile(pieces=tuple(_piece(span, definitions) for span in spans), symbols=tuple(_symbols(definitions)))


class _Sizes:
    """Non-blank characters of any range of lines."""

    def __init__(self, lines: Sequence[str]) -> None:
        self.last_line = len(lines)
        self._sums = list(accumulate((len("".join(line.split())) for line in lines), initial=0))

    def fits(self, start: int, end: int) -> bool:
        return end - start < MAX_LINES and self._sums[end] - self._sums[start - 1] <= MAX_CHARS

    def furthest(self, start: int) -> int:
        """The last line of the longest range from `start` that fits: at least `start` itself."""
        end = bisect_right(self._sums, self._sums[start - 1] + MAX_CHARS) - 1
        return max(start, min(end, start + MAX_LINES - 1, self.last_line))


def _split(parsed: ParsedFile, sizes: _Sizes) -> Iterator[tuple[int, int]]:
    return _split_node(parsed.root, 1, sizes.last_line, sizes, depth=0)


def _split_node(node: Node, start: int, end: int, sizes: _Sizes, depth: int) -> Iterator[tuple[int, int]]:
    """Ranges that cover lines `start` to `end`, all of which belong to `node`."""
    if sizes.fits(start, end):
        yield start, end
        return
    parts = _parts(node, start, end) if depth < _MAX_DEPTH else []
    if len(parts) <= 1 and (not parts or parts[0][1] is None):
        yield from _windows(start, end, sizes)
        return
    bounds = [line for line, _ in parts] + [end + 1]
    for (first, after), (_, child) in zip(pairwise(bounds), parts, strict=True):
        if child is None:
            yield from _windows(first, after - 1, sizes)
        else:
            yield from _split_node(child, first, after - 1, sizes, depth + 1)


def _parts(node: Node, start: int, end: int) -> list[tuple[int, Node | None]]:
    """(first line, child to split further if it is too large) in order; a comment belongs to what follows it."""
    parts: list[tuple[int, Node | None]] = []
    comment: int | None = None
    covered = start - 1
    for child in node.children:
        first, last = child.start_point.row + 1, last_row(child) + 1
        if first < start or first > end or (first <= covered and last <= covered):
            continue
        if child.type.endswith("comment"):
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


def _merged(atoms: Iterator[tuple[int, int]], sizes: _Sizes) -> Iterator[tuple[int, int]]:
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


def _trimmed(start: int, end: int, lines: Sequence[str]) -> tuple[int, int] | None:
    while start <= end and not lines[start - 1].strip():
        start += 1
    while end >= start and not lines[end - 1].strip():
        end -= 1
    return (start, end) if start <= end else None


def _piece(span: tuple[int, int], definitions: Sequence[Definition]) -> Piece:
    start, end = span
    return Piece(
        start_line=start,
        end_line=end,
        scope=tuple(d.scope for d in definitions if d.start_line < start <= d.end_line),
        defines=tuple(dict.fromkeys(d.name for d in definitions if start <= d.start_line <= end)),
    )


_MAX_MEMBERS = 12


def _symbols(definitions: Sequence[Definition]) -> Iterator[Symbol]:
    members: dict[int, list[str]] = {}
    for definition in definitions:
        if definition.parent is not None:
            members.setdefault(definition.parent, []).append(definition.signature)
    for index, definition in enumerate(definitions):
        inner = [f"    {signature}" for signature in members.get(index, [])[:_MAX_MEMBERS]]
        yield Symbol(
            name=definition.name, line=definition.start_line, signature="\n".join([definition.signature, *inner])
        )
