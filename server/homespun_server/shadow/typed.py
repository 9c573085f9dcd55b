"""What somebody wrote at a place after they were there, by a later request from the same file. Pure."""

from __future__ import annotations

MARK = 120
"""Characters before the place that must stand in front of what was written, to know it again."""
_LEAST = 20
_FAR = 6_000
"""A place further above isn't looked for."""


def line_typed(before: str, later: str) -> str | None:
    """The rest of the line at the end of `before`, once `later` shows that it was ended; None while it isn't, or where
    the place can't be told for certain. Both are texts before a cursor."""
    mark, text = before[-MARK:], later[-_FAR:]
    if len(mark.strip()) < _LEAST:
        return None
    at = text.find(mark)
    if at < 0 or text.find(mark, at + 1) >= 0:
        return None
    line, end, _ = text[at + len(mark) :].partition("\n")
    return line.rstrip() if end else None
