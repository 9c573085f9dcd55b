"""What became of completions over time, counted by the database. Never who: numbers of one person are their own."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import BigInteger, Column, ColumnElement, Engine, Integer, Select, case, cast, func, select
from sqlalchemy.sql.functions import coalesce

from homespun_server.feedback.store import SETTLED_S, Summary
from homespun_server.feedback.tables import completions, events

DAY_S = 86_400
Latencies = Mapping[int, Counter[int]]
"""By day since 1970 (UTC): whole milliseconds, and how many completions took so long."""

_accepted, _shown, _kept, _saved = (events.alias(kind) for kind in ("accepted", "shown", "kept", "saved"))
_DAY: ColumnElement[int] = cast(completions.c.time, BigInteger) // DAY_S


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which completions are counted."""

    since: float
    until: float | None = None
    """Seconds since 1970; None: those that can no longer change."""
    user: str | None = None
    """One user's; None is everybody's."""
    repositories: frozenset[str] | None = None
    """Ids; None is all, and what belongs to none."""


def total(engine: Engine, wanted: Wanted) -> Summary:
    return next(iter(_summaries(engine, wanted, None).values()), _NOTHING)


def by_day(engine: Engine, wanted: Wanted) -> Mapping[int, Summary]:
    """By day since 1970, UTC; days without completions are missing."""
    return _summaries(engine, wanted, _DAY)


def by_column(engine: Engine, wanted: Wanted, column: str) -> Mapping[str | None, Summary]:
    """By value of one of the columns of `completions`, most completions first."""
    found = _summaries(engine, wanted, completions.c[column])
    return dict(sorted(found.items(), key=lambda item: (-item[1].opportunities, str(item[0]))))


def latencies(engine: Engine, wanted: Wanted) -> Latencies:
    whole = cast(completions.c.latency_ms, Integer)
    columns: list[Any] = [_DAY.label("day"), whole.label("ms"), func.count().label("number")]
    query: Select[Any] = select(*columns).group_by("day", "ms")
    found: dict[int, Counter[int]] = {}
    with engine.connect() as connection:
        for row in connection.execute(_limited(query, wanted)):
            found.setdefault(row.day, Counter())[row.ms] += row.number
    return found


def percentile(counts: Counter[int], share: float) -> float | None:
    """The least value that so many of all don't exceed; None of nothing."""
    wanted, seen = share * counts.total(), 0
    for value in sorted(counts):
        seen += counts[value]
        if seen >= wanted:
            return float(value)
    return None


def days(since: float, until: float) -> Sequence[int]:
    """All days since 1970 from one time to another, both included."""
    return range(int(since // DAY_S), int(until // DAY_S) + 1)


_NOTHING = Summary(opportunities=0, hidden=0, would_hide=0, shown=0, accepted=0, kept_characters=0)


def _summaries(engine: Engine, wanted: Wanted, group: ColumnElement[Any] | Column[Any] | None) -> dict[Any, Summary]:
    columns = _counts() if group is None else [group.label("name"), *_counts()]
    query: Select[Any] = _limited(select(*columns).select_from(_told()), wanted)
    if group is not None:
        query = query.group_by(group)
    with engine.connect() as connection:
        rows = [row._asdict() for row in connection.execute(query)]
    return {row.pop("name", None): Summary(**{name: int(value or 0) for name, value in row.items()}) for row in rows}


def _told() -> Any:
    joined: Any = completions
    for kind in (_accepted, _shown, _kept, _saved):
        joined = joined.outerjoin(kind, (kind.c.completion == completions.c.id) & (kind.c.kind == kind.name))
    return joined


def _counts() -> list[ColumnElement[int]]:
    """As `feedback.store` has them: what was accepted was shown; where a client doesn't look, all of it was kept."""
    is_accepted = _accepted.c.completion.is_not(None)
    accepted = coalesce(_accepted.c.characters, 0)
    kept = coalesce(_kept.c.characters, _saved.c.characters, accepted)
    return [
        func.count().label("opportunities"),
        _number(completions.c.verdict == "hide").label("hidden"),
        _number(completions.c.verdict == "would_hide").label("would_hide"),
        _number(is_accepted | _shown.c.completion.is_not(None)).label("shown"),
        _number(is_accepted).label("accepted"),
        func.sum(case((kept < accepted, kept), else_=accepted)).label("kept_characters"),
    ]


def _number(condition: ColumnElement[bool]) -> ColumnElement[int]:
    return func.sum(case((condition, 1), else_=0))


def _limited(query: Select[Any], wanted: Wanted) -> Select[Any]:
    until = time.time() - SETTLED_S if wanted.until is None else wanted.until
    query = query.where(completions.c.time >= wanted.since, completions.c.time < until)
    if wanted.user is not None:
        query = query.where(completions.c.user == wanted.user)
    if wanted.repositories is not None:
        query = query.where(completions.c.repository.in_(wanted.repositories))
    return query
