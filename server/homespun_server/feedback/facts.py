"""What is remembered of a completion, and what an editor says became of it. Never any code."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from homespun_server.feedback.filter.verdicts import Verdict

EventKind = Literal["shown", "accepted", "dismissed", "kept", "saved"]
"""`kept` is what of an accepted text is still there after half a minute, `saved` when the file is saved."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CompletionFact:
    """One answer of the server, empty ones included: a place where somebody might have been helped."""

    id: str
    time: float
    """When it was asked for, seconds since 1970."""
    user: str
    """As the client names it; empty for one that doesn't."""
    repository: str | None
    language: str | None
    adapter: str | None
    characters: int
    first_line: int
    """Characters of its first line: what a client accepts that takes a line only."""
    latency_ms: float
    features: Mapping[str, float] = field(default_factory=dict)
    """What was known of it when it was ready: what a show/hide filter can decide on."""
    probability: float | None = None
    """That something of it is kept, as the live filter has it."""
    verdict: Verdict | None = None
    editor: str | None = None
    prompt_version: str | None = None
    """As in `Outcome`."""
    is_ahead: bool = False
    """Made before anybody wanted it: an opportunity only once it is shown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    completion: str
    """Id of the completion in the server's answer."""
    kind: EventKind
    time: float
    characters: int | None = None
    """None: all that the completion has, for a kind that counts characters."""
    is_line: bool = False
    """Its first line only; instead of `characters`, for clients that don't count."""
    user: str = ""
    """Id of the account it came from, which must be the completion's; empty without accounts."""


Fact = CompletionFact | Event
