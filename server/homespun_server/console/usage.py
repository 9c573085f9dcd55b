"""What became of completions over time, counted by the database. Never who: numbers of one person are their own."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, TypeVar

from sqlalchemy import BigInteger, ColumnElement, Engine, Integer, Select, Subquery, case, cast, func, select
from sqlalchemy.sql.functions import coalesce

from homespun_server.access.tables import members, teams
from homespun_server.feedback.facts import EventKind
from homespun_server.feedback.store import SETTLED_S, Summary
from homespun_server.feedback.tables import completions, events

DAY_S = 86_400
Latencies = Mapping[int, Counter[int]]
"""By day since 1970 (UTC): whole milliseconds, and how many completions took so long."""

Name = TypeVar("Name", bound=Hashable)

_IN_COMMON = ("language", "adapter", "repository", "editor")
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """What came of the completions that have all this in common. A window has far fewer of them than completions, so
    that the database counts once and every sum is one of these."""

    day: int
    """Since 1970, UTC."""
    language: str | None
    adapter: str | None
    repository: str | None
    editor: str | None
    summary: Summary


def cells(engine: Engine, wanted: Wanted) -> list[Cell]:
    told = _told(wanted)
    common = [told.c[name] for name in ("day", *_IN_COMMON)]
    query: Select[Any] = select(*common, *_counts(told)).group_by(*common)
    with engine.connect() as connection:
        rows = [row._asdict() for row in connection.execute(query)]
    return [Cell(**{name: row.pop(name) for name in ("day", *_IN_COMMON)}, summary=_summary(row)) for row in rows]


def total(found: Iterable[Cell]) -> Summary:
    return _added(cell.summary for cell in found)


def grouped(found: Iterable[Cell], key: Callable[[Cell], Name]) -> dict[Name, Summary]:
    """Most completions first."""
    summaries: defaultdict[Name, list[Summary]] = defaultdict(list)
    for cell in found:
        summaries[key(cell)].append(cell.summary)
    return _most_first({name: _added(some) for name, some in summaries.items()})


def by_team(engine: Engine, wanted: Wanted) -> dict[str, Summary]:
    """Whoever is in several teams counts for each."""
    told, in_team = _told(wanted), select(members.c.team, members.c.user).distinct().subquery()
    joined = told.join(in_team, in_team.c.user == told.c.user).join(teams, teams.c.id == in_team.c.team)
    query: Select[Any] = select(teams.c.name, *_counts(told)).select_from(joined).group_by(teams.c.name)
    with engine.connect() as connection:
        rows = [row._asdict() for row in connection.execute(query)]
    return _most_first({row.pop("name"): _summary(row) for row in rows})


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


def _summary(row: Mapping[str, Any]) -> Summary:
    return Summary(**{name: int(value or 0) for name, value in row.items()})


def _added(summaries: Iterable[Summary]) -> Summary:
    names = [field.name for field in fields(Summary)]
    every = list(summaries)
    return Summary(**{name: sum(getattr(one, name) for one in every) for name in names})


def _most_first(found: Mapping[Name, Summary]) -> dict[Name, Summary]:
    return dict(sorted(found.items(), key=lambda item: (-item[1].opportunities, str(item[0]))))


def _told(wanted: Wanted) -> Subquery:
    """Each completion with what was told of it, in one row. Four joins of the events took three times as long."""
    own: list[Any] = [_DAY.label("day"), *(completions.c[name] for name in ("user", "verdict", *_IN_COMMON))]
    kinds: tuple[EventKind, ...] = ("shown", "accepted", "kept", "saved")
    counts = [func.max(case((events.c.kind == kind, events.c.characters))).label(kind) for kind in kinds]
    query: Select[Any] = select(*own, *counts).select_from(completions.outerjoin(events))
    return _limited(query, wanted).group_by(completions.c.id).subquery()


def _counts(told: Subquery) -> list[ColumnElement[int]]:
    """As `feedback.store` has them: what was accepted was shown; where a client doesn't look, all of it was kept."""
    is_accepted = told.c.accepted.is_not(None)
    accepted = coalesce(told.c.accepted, 0)
    kept = coalesce(told.c.kept, told.c.saved, accepted)
    return [
        func.count().label("opportunities"),
        _number(told.c.verdict == "hide").label("hidden"),
        _number(told.c.verdict == "would_hide").label("would_hide"),
        _number(is_accepted | told.c.shown.is_not(None)).label("shown"),
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
