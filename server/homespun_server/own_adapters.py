"""Which adapter somebody has for themselves where they complete. Pure: unknown means the one that everybody has."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Owned:
    """Somebody's own adapter for one repository, loaded."""

    adapter: str
    """Its name in the engine."""
    on_top_of: str | None
    """The adapter that it was trained on top of, by its name in the engine; None is the base model."""
    saw: frozenset[str]
    """Ids of the repositories it was trained on."""


Wardrobe = Mapping[tuple[str, str], Owned]
"""By account and repository."""


def own_adapter(
    owned: Wardrobe, account: str | None, repository: str, everybodys: str | None, readable: frozenset[str] | None
) -> str | None:
    """Of the account that asks, and of nobody else: while it stands on what everybody has there, so that one that was
    rolled back or forgotten isn't served inside of it; and while its owner may read all that it has seen.

    `everybodys` is the adapter that is live in the repository; `readable` are ids, None is all.
    """
    mine = owned.get((account, repository)) if account else None
    return mine.adapter if mine is not None and why_not_served(mine, everybodys, readable) is None else None


def why_not_served(mine: Owned, everybodys: str | None, readable: frozenset[str] | None) -> str | None:
    """To its owner, in words that go on after the adapter; None if it is. Says no name of what they may not read."""
    if not mine.saw:
        return "doesn't say which repositories it was trained on"
    if readable is not None and (hidden := mine.saw - readable):
        what = "a repository" if len(hidden) == 1 else f"{len(hidden)} repositories"
        return f"was trained on {what} that you may not read, or on top of an adapter that was"
    if mine.on_top_of != everybodys:
        now = everybodys or "the base model"
        return f"stands on something else than what you have there otherwise, {now}; the next training is on that"
    return None
