"""What became of completions: the facts that rollouts, filters and dashboards are decided on. Never any code."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Reception:
    """How many completions were shown, and how many of these were accepted: of a day, a repository and a language."""

    time: float
    """When the day began, seconds since 1970; UTC."""
    repository: str | None
    language: str | None
    shown: int
    accepted: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """One opportunity: a place where a completion was asked for, whatever came of it."""

    completion: str
    """Id of the completion in the server's answer."""
    time: float
    """When it was asked for, seconds since 1970."""
    user: str
    """Opaque; one person or one editor."""
    repository: str | None
    """Directory name of the repository in the data directory; None when unknown."""
    language: str | None
    adapter: str | None
    """Version of the adapter that wrote it; None is the base model."""
    is_shown: bool
    is_accepted: bool
    """In full or in part."""
    accepted_characters: int
    kept_characters: int
    """Of the accepted ones, those still there half a minute later."""
    latency_ms: float
    verdict: str | None = None
    """Of the show/hide filter: `show`, `hide`, `explore` (shown, though unlikely), `would_hide` (it wasn't used)."""
    prompt_version: str | None = None
    """Which prompt it had, of those that are tried (`server/rollout/prompts.py`); None where it was everybody's."""
