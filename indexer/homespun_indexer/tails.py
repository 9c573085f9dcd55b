"""Does the code right before the cursor stand in a chunk, word for word? BM25 knows words and not their order.

Chunks that repeat the last tokens show what followed them there, which is what is about to be written here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import TypeVar

Key = TypeVar("Key")

MAX_TAIL = 3
"""Tokens; a bonus for six and more added nothing."""
TAIL_BONUS = 0.1
"""For each token, as a share of the best BM25 score. Names found by three snippets, in points against BM25's own order:
caddy +2.8 [1.1, 4.6], hugo +3.8 [1.5, 6.1], nova +1.5 [0.3, 2.7], mitmproxy +1.2 [-2.1, 4.2], scrapy +0.4 [-1.0, 1.8],
wagtail -0.4 [-1.6, 0.9]. 0.05 and 0.15 are no better."""
_TOKEN = re.compile(r"\w+|[^\w\s]")
_NEAR_CHARS = 400


def tails(prefix: str) -> tuple[str, ...]:
    """The last token before the cursor, the last two, and so on, with single spaces where there is any space."""
    near = prefix[-_NEAR_CHARS:]
    starts = [match.start() for match in _TOKEN.finditer(near)][-MAX_TAIL:]
    return tuple(_flat(near[start:]) for start in reversed(starts))


def num_repeated(ends: Sequence[str], text: str) -> int:
    """How many of the `tails` stand in `text`; when one doesn't, no longer one does."""
    flat = _flat(text)
    return next((number for number, end in enumerate(ends) if end not in flat), len(ends))


def reordered(hits: Sequence[tuple[Key, float]], text_of: Callable[[Key], str], prefix: str) -> list[tuple[Key, float]]:
    """`hits` (best first, by BM25 score) as they come when those that repeat what is before the cursor are moved up.

    Scores are raised by the bonus; equal ones keep their order.
    """
    ends = tails(prefix)
    if not hits or not ends:
        return list(hits)
    bonus = TAIL_BONUS * hits[0][1]
    raised = [(key, score + bonus * num_repeated(ends, text_of(key))) for key, score in hits]
    return sorted(raised, key=lambda hit: -hit[1])


def _flat(text: str) -> str:
    return " ".join(text.split())
