"""What became of completions over time: days that are over from their sums, the rest counted by the database. Never
who: numbers of one person are their own."""

from __future__ import annotations

import logging
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from typing import Any, TypeVar

from sqlalchemy import BigInteger, ColumnElement, Connection, Engine, Select, Subquery, Table, cast, func, select
from sqlalchemy.exc import SQLAlchemyError

from homespun_core.outcomes import Reception
from homespun_server.access.tables import members, teams
from homespun_server.feedback.summary import Summary, added, summary_of
from homespun_server.feedback.sums import (
    DAY_S,
    IN_COMMON,
    SETTLED_S,
    between,
    counts,
    day_of,
    outside,
    settled,
    sum_up,
    told,
    whole_ms,
)
from homespun_server.feedback.tables import completions, latency_days, usage_days

logger = logging.getLogger(__name__)

Latencies = Mapping[int, Counter[int]]
"""By day since 1970 (UTC): whole milliseconds, and how many completions took so long."""

Name = TypeVar("Name", bound=Hashable)

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


NAME_OF: Mapping[str, Callable[[Cell], str]] = {
    "language": lambda cell: cell.language or "unknown",
    "editor": lambda cell: cell.editor or "unknown",
    "adapter": lambda cell: cell.adapter or "base model",
    "repository": lambda cell: cell.repository or "none",
}
"""By what cells can be told apart, and what each is called then."""


def cells(engine: Engine, wanted: Wanted) -> list[Cell]:
    names = ("day", *IN_COMMON)
    found: defaultdict[tuple[Any, ...], list[Summary]] = defaultdict(list)
    with _counted(engine, wanted) as (connection, whole, rest):
        for table in (_sums(usage_days, wanted, whole), *_raw(wanted, rest)):
            common = [table.c[name] for name in names]
            for row in connection.execute(_totals(table, *common).group_by(*common)):
                found[tuple(getattr(row, name) for name in names)].append(summary_of(row))
    return [Cell(**dict(zip(names, key, strict=True)), summary=added(some)) for key, some in found.items()]


def total(found: Iterable[Cell]) -> Summary:
    return added(cell.summary for cell in found)


def receptions(engine: Engine, since: float) -> list[Reception]:
    return [
        Reception(
            time=float(cell.day * DAY_S),
            repository=cell.repository,
            language=cell.language,
            shown=cell.summary.shown,
            accepted=cell.summary.accepted,
        )
        for cell in cells(engine, Wanted(since=since))
    ]


def grouped(found: Iterable[Cell], key: Callable[[Cell], Name]) -> dict[Name, Summary]:
    """Most completions first."""
    return added_up((key(cell), cell.summary) for cell in found)


def added_up(found: Iterable[tuple[Name, Summary]]) -> dict[Name, Summary]:
    """Most completions first."""
    summaries: defaultdict[Name, list[Summary]] = defaultdict(list)
    for name, summary in found:
        summaries[name].append(summary)
    return _most_first({name: added(some) for name, some in summaries.items()})


@dataclass(frozen=True, slots=True)
class TeamCell:
    day: int
    team: str
    summary: Summary


def team_cells(engine: Engine, wanted: Wanted) -> list[TeamCell]:
    """Whoever is in several teams counts for each."""
    found: defaultdict[tuple[int, str], list[Summary]] = defaultdict(list)
    in_team = select(members.c.team, members.c.user).distinct().subquery()
    with _counted(engine, wanted) as (connection, whole, rest):
        for table in (_sums(usage_days, wanted, whole), *_raw(wanted, rest)):
            joined = table.join(in_team, in_team.c.user == table.c.user).join(teams, teams.c.id == in_team.c.team)
            common = (table.c.day, teams.c.name)
            for row in connection.execute(_totals(table, *common).select_from(joined).group_by(*common)):
                found[row.day, row.name].append(summary_of(row))
    return [TeamCell(*key, added(some)) for key, some in found.items()]


def latencies(engine: Engine, wanted: Wanted) -> Latencies:
    """Of one user they are counted anew each time: sums of everybody's aren't kept by user."""
    found: defaultdict[int, Counter[int]] = defaultdict(Counter)
    until = _until(wanted)
    with _counted(engine, wanted) as (connection, whole, rest):
        if wanted.user is not None:
            whole, rest = frozenset(), [(wanted.since, until)]
        summed = _sums(latency_days, wanted, whole)
        of_sums: Select[Any] = select(summed.c.day, summed.c.ms, func.sum(summed.c.number).label("number"))
        queries = [of_sums.group_by(summed.c.day, summed.c.ms)]
        columns: list[Any] = [_DAY.label("day"), whole_ms().label("ms"), func.count().label("number")]
        queries += [select(*columns).where(_those(wanted, a, b)).group_by("day", "ms") for a, b in rest]
        for query in queries:
            for row in connection.execute(query):
                found[row.day][row.ms] += int(row.number)
    return dict(found)


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


def _most_first(found: Mapping[Name, Summary]) -> dict[Name, Summary]:
    return dict(sorted(found.items(), key=lambda item: (-item[1].opportunities, str(item[0]))))


@contextmanager
def _counted(
    engine: Engine, wanted: Wanted
) -> Iterator[tuple[Connection, frozenset[int], Sequence[tuple[float, float]]]]:
    """The days of which the sums stand, and the rest of the time, which is counted. Where the sums can't be written (a
    full disk, a copy that is read only), more is rest."""
    until = _until(wanted)
    try:
        sum_up(engine, wanted.since, until)
    except SQLAlchemyError as error:
        logger.warning("usage can't be summed up (%s)", type(error).__name__)
    first, last = -int(-wanted.since // DAY_S), day_of(until) - 1
    with engine.connect() as connection:
        whole = settled(connection, first, last)
        yield connection, whole, outside(whole, wanted.since, until)


def _sums(table: Table, wanted: Wanted, days: Collection[int]) -> Subquery:
    query = select(table).where(table.c.day.in_(sorted(days)))
    if wanted.user is not None and "user" in table.c:
        query = query.where(table.c.user == wanted.user)
    if wanted.repositories is not None:
        query = query.where(table.c.repository.in_(wanted.repositories))
    return query.subquery()


def _raw(wanted: Wanted, times: Iterable[tuple[float, float]]) -> Iterator[Subquery]:
    """The same columns, a row for each completion."""
    for since, until in times:
        each = told(_those(wanted, since, until), _DAY.label("day"))
        common = [each.c[name] for name in ("day", "user", *IN_COMMON)]
        yield select(*common, *counts(each)).group_by(*common).subquery()


def _those(wanted: Wanted, since: float, until: float) -> ColumnElement[bool]:
    condition = between(since, until)
    if wanted.user is not None:
        condition &= completions.c.user == wanted.user
    if wanted.repositories is not None:
        condition &= completions.c.repository.in_(wanted.repositories)
    return condition


def _totals(table: Subquery, *common: Any) -> Select[Any]:
    sums = (func.sum(table.c[field.name]).label(field.name) for field in fields(Summary))
    return select(*common, *sums)


def _until(wanted: Wanted) -> float:
    return time.time() - SETTLED_S if wanted.until is None else wanted.until
