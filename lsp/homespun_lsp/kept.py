"""How much of an accepted text still stands, after whatever was done to it. Pure."""

from __future__ import annotations

import re
from difflib import SequenceMatcher

_TOKEN = re.compile(r"\w+|[^\w\s]")
_MAX_CHARS = 20_000
"""A span that grew beyond this was replaced, not edited; comparing it would take seconds."""


def kept_characters(accepted: str, now: str) -> int:
    """Of the characters of `accepted` those whose token still stands in `now`, in the same order. White space counts in
    proportion: a formatter takes nothing away, and blanks shared with unrelated text keep nothing."""
    if accepted == now:
        return len(accepted)
    if len(now) > _MAX_CHARS:
        return 0
    old, new = _TOKEN.findall(accepted), _TOKEN.findall(now)
    blocks = SequenceMatcher(None, old, new, autojunk=False).get_matching_blocks()
    standing = sum(len(token) for block in blocks for token in old[block.a : block.a + block.size])
    return round(len(accepted) * standing / max(1, sum(map(len, old))))
