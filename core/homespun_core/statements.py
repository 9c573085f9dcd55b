"""Where Python's statements are whole, by the looks of their lines: no grammar, no parser. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence

_HEADER = re.compile(r"[^#]*:\s*(?:#[^'\"]*)?\Z|[^#'\"]*:\s*#")
"""What stands behind a quote may be no comment."""
_DECORATED = re.compile(r"\s*(?:@|(?:async\s+)?def\b|class\b)")
_OF_TRY = re.compile(r"\s*(?:(?P<begins>try)\s*:|(?:except|finally)\b)")


def whole_after(lines: Sequence[str], open_after: Sequence[int], below: str) -> list[int]:
    """The lines after which no statement is half: no block without its inside, decorator of nothing, `try` that catches
    nothing. `open_after` counts what is open after each; `below` is what comes after the last."""
    statements: list[str] = []
    whole = []
    for n, line in enumerate(lines):
        if n and open_after[n - 1]:
            statements[-1] += f"\n{line}"
        else:
            statements.append(line)
        if not open_after[n] and not _awaits_more(statements, below if n == len(lines) - 1 else ""):
            whole.append(n)
    return whole


def _awaits_more(statements: Sequence[str], below: str) -> bool:
    code = [line for line in statements if line.strip() and not line.lstrip().startswith("#")]
    if not code:
        return False
    last = code[-1]
    if last.lstrip().startswith("@"):
        return _indent(below) != _indent(last) or not _DECORATED.match(below)
    if last.endswith("\\"):
        return True
    if _HEADER.match(last):
        return _indent(below) <= _indent(last)
    tries: set[int] = set()
    for line in code:
        if (found := _OF_TRY.match(line)) and found["begins"]:
            tries.add(_indent(line))
        elif found:
            tries.discard(_indent(line))
    is_caught = (found := _OF_TRY.match(below)) is not None and not found["begins"]
    return bool(tries - ({_indent(below)} if is_caught else set()))


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())
