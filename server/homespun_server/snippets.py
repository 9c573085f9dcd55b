"""Snippets that the client sent and those of the index, as one list. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from homespun_core.types import Snippet

_MAX_SENT = 16
_TELLING_CHARS = 8
"""A line with fewer stands in many places."""


def merged(sent: Sequence[Snippet], found: Sequence[Snippet], limit: int) -> tuple[Snippet, ...]:
    """What was found first, and of what was sent enough to make `limit`: in the way of what the search found it costs
    more than it brings (benchmarks/LOG.md). Where both say mostly the same, what was sent takes the place: it is newer.
    Where nothing was found, all that was sent."""
    limit = limit if found else _MAX_SENT
    chosen = list(found)
    lines = [_telling_lines(snippet) for snippet in chosen]
    for snippet in sent[:_MAX_SENT]:
        own = _telling_lines(snippet)
        alike = [n for n, others in enumerate(lines) if _says_the_same(own, others)]
        if not alike and len(chosen) < limit:
            chosen.append(snippet)
            lines.append(own)
        elif alike and alike[0] < len(found):
            chosen[alike[0]], lines[alike[0]] = snippet, own
    return tuple(chosen)


def _telling_lines(snippet: Snippet) -> frozenset[str]:
    lines = (line.strip() for line in snippet.text.splitlines())
    return frozenset(line for line in lines if len(line) >= _TELLING_CHARS)


def _says_the_same(lines: frozenset[str], others: frozenset[str]) -> bool:
    return len(lines & others) * 2 > min(len(lines), len(others))
