"""What a completion goes without while the engine has more to do than time for it. Pure.

A suggestion that comes late is never seen, so under load many small ones are better than few whole ones. In this order:
one new snippet instead of several (the prompt is shorter, and less is computed), a shorter completion, what followed in
the repository after the same tokens (no model), nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from homespun_server.engine.protocol import EngineLoad, Priority

Reason = Literal["fewer_snippets", "shorter", "draft_only"]

_SHORT_TOKENS = 24
_LONGER_FOR_INVOKED = 4.0
"""Somebody who asked by hand waits."""
_LINE_TOKENS = 32
"""Of 9,000 rests of lines that developers added to three repositories, 99 % have 19 to 25 at most."""
_OPENING = tuple(":({[")


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowance:
    snippets: int
    """Retrieved anew at most; those of a place nearby stay, since their keys and values are there."""
    max_new_tokens: int
    uses_model: bool = True
    reasons: tuple[Reason, ...] = ()
    """What is less than asked for, in the order of the words above."""


def allowance(
    load: EngineLoad, *, target_ms: float, priority: Priority, snippets: int, max_new_tokens: int
) -> Allowance:
    """`target_ms`: a completion should be there by then, waiting included."""
    patience = target_ms * (_LONGER_FOR_INVOKED if priority == "invoked" else 1.0)
    whole = Allowance(snippets=snippets, max_new_tokens=max_new_tokens)
    if load.wait_ms < patience / 2:
        return whole
    if priority == "warm":  # the first to go: it would keep a place, and with fewer snippets prepare another prompt
        return Allowance(snippets=0, max_new_tokens=0, uses_model=False, reasons=("draft_only",))
    fewer = Allowance(snippets=min(1, snippets), max_new_tokens=max_new_tokens, reasons=("fewer_snippets",))
    if load.wait_ms < patience:
        return fewer
    short = min(_SHORT_TOKENS, max_new_tokens)
    if load.wait_ms < 2 * patience:
        return Allowance(snippets=fewer.snippets, max_new_tokens=short, reasons=("fewer_snippets", "shorter"))
    return Allowance(
        snippets=0, max_new_tokens=short, uses_model=False, reasons=("fewer_snippets", "shorter", "draft_only")
    )


def token_budget(prefix: str, suffix: str, limit: int) -> int:
    """New tokens worth deciding at this place: all in an empty line and where a block is opened; else the rest of the
    line, since with words right of the cursor nothing else is kept, and without them what follows is hardly ever right:
    at 719 ends of lines, 64 tokens got no line right that 32 hadn't."""
    before, after = prefix.rpartition("\n")[2].rstrip(), suffix.partition("\n")[0]
    is_block = not before or before.endswith(_OPENING)
    has_words = any(c.isalnum() or c == "_" for c in after)
    return limit if is_block and not has_words else min(limit, _LINE_TOKENS)
