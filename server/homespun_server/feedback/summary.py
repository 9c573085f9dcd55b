"""What came of some completions, in numbers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from typing import Any

from sqlalchemy import Row

from homespun_core.outcomes import Outcome


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """What came of some opportunities."""

    opportunities: int
    hidden: int
    """By the show/hide filter."""
    would_hide: int
    """That many the filter would have hidden, had it been used."""
    shown: int
    accepted: int
    kept_characters: int

    @property
    def acceptance(self) -> float:
        return self.accepted / self.shown if self.shown else 0.0

    @property
    def kept_per_opportunity(self) -> float:
        return self.kept_characters / self.opportunities if self.opportunities else 0.0


_NAMES = [field.name for field in fields(Summary)]


def summary_of(row: Row[Any]) -> Summary:
    """Of one that has its columns, as `sums.counts` makes them."""
    return Summary(**{name: int(getattr(row, name) or 0) for name in _NAMES})


def added(summaries: Iterable[Summary]) -> Summary:
    every = list(summaries)
    return Summary(**{name: sum(getattr(one, name) for one in every) for name in _NAMES})


def summary(outcomes: Sequence[Outcome]) -> Summary:
    return Summary(
        opportunities=len(outcomes),
        hidden=sum(o.verdict == "hide" for o in outcomes),
        would_hide=sum(o.verdict == "would_hide" for o in outcomes),
        shown=sum(o.is_shown for o in outcomes),
        accepted=sum(o.is_accepted for o in outcomes),
        kept_characters=sum(o.kept_characters for o in outcomes),
    )
