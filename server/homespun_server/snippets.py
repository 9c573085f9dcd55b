"""Snippets that the client sent and those of the index, as one list. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import zip_longest

from homespun_core.types import Snippet

_MAX_SENT = 16
_TELLING_CHARS = 8
"""A line with fewer stands in many places."""


def merged(sent: Sequence[Snippet], found: Sequence[Snippet]) -> tuple[Snippet, ...]:
    """In turns, so that neither crowds the other out of the prompt; those of the client first, since they are what
    somebody has before their eyes. Of two that say mostly the same the first stays."""
    chosen: list[Snippet] = []
    seen: list[frozenset[str]] = []
    for snippet in _in_turns(sent[:_MAX_SENT], found):
        lines = _telling_lines(snippet)
        if not any(_says_the_same(lines, others) for others in seen):
            chosen.append(snippet)
            seen.append(lines)
    return tuple(chosen)


def _in_turns(first: Sequence[Snippet], second: Sequence[Snippet]) -> Iterator[Snippet]:
    for pair in zip_longest(first, second):
        yield from (snippet for snippet in pair if snippet is not None)


def _telling_lines(snippet: Snippet) -> frozenset[str]:
    lines = (line.strip() for line in snippet.text.splitlines())
    return frozenset(line for line in lines if len(line) >= _TELLING_CHARS)


def _says_the_same(lines: frozenset[str], others: frozenset[str]) -> bool:
    return len(lines & others) * 2 > min(len(lines), len(others))
