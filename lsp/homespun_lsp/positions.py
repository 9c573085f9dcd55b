"""Between an editor's positions (line, code units) and offsets into a Python string, which all else works with.

Lines end at \\n, \\r\\n and \\r and nowhere else, as the protocol says. `str.splitlines`, which pygls uses, also splits
at form feeds and U+2028; with those in a file, the edits of an editor land on the wrong line.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from itertools import accumulate
from typing import Literal, NamedTuple

Encoding = Literal["utf-8", "utf-16", "utf-32"]

_LINE_END = re.compile(r"\r\n|\r|\n")


def plain_line_ends(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n") if "\r" in text else text


class Position(NamedTuple):
    line: int
    """0-based."""
    character: int
    """Code units of the negotiated encoding since the start of the line."""


class LineIndex:
    """Where the lines of one text start."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._starts = _line_starts(text)

    def offset(self, position: Position, encoding: Encoding) -> int:
        """Positions beyond a line's or the text's end mean that end; inside a character, its start."""
        line, units = position
        if line >= len(self._starts):
            return len(self._text)
        start, end = self._starts[line], self.line_end(line)
        if encoding == "utf-32" or self._text[start:end].isascii():
            return min(start + units, end)
        for at in range(start, end):
            units -= _width(self._text[at], encoding)
            if units < 0:
                return at
        return end

    def position(self, offset: int, encoding: Encoding) -> Position:
        """An offset between \\r and \\n has no position of its own and gets that of the line's end."""
        line = bisect_right(self._starts, offset) - 1
        before = self._text[self._starts[line] : min(offset, self.line_end(line))]
        if encoding == "utf-32" or before.isascii():
            return Position(line, len(before))
        return Position(line, sum(_width(char, encoding) for char in before))

    def line_end(self, line: int) -> int:
        """Offset of the line's terminator, or the end of the text."""
        if line + 1 == len(self._starts):
            return len(self._text)
        end = self._starts[line + 1] - 1
        return end - 1 if self._text[end - 1 : end + 1] == "\r\n" else end


def _line_starts(text: str) -> list[int]:
    if "\r" in text:
        return [0, *(match.end() for match in _LINE_END.finditer(text))]
    # Three times as fast as the expression, and needed at every keystroke.
    return list(accumulate((len(line) + 1 for line in text.split("\n")), initial=0))[:-1]


def _width(char: str, encoding: Encoding) -> int:
    """Code units of one character. Lone surrogates, which JSON can carry, count as what they would be alone."""
    point = ord(char)
    if encoding == "utf-16":
        return 2 if point > 0xFFFF else 1
    if point < 0x80:
        return 1
    return 2 if point < 0x800 else 3 if point < 0x10000 else 4
