"""Usage by day, counted once: a day that is over is summed up, and again when anything of it has changed since.

Who writes to `completions` or `events` calls `unsettle` for the days it touches, in its own transaction. Summing up
keeps writers waiting for as long as it takes, a day at a time, so no change falls between the two.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Sequence
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Engine,
    Integer,
    Select,
    Subquery,
    case,
    cast,
    delete,
    exists,
    func,
    insert,
    literal,
    select,
    update,
)
from sqlalchemy.sql.functions import coalesce

from homespun_server.database.opening import unhurried, writing
from homespun_server.feedback.facts import EventKind
from homespun_server.feedback.tables import completions, events, latency_days, summed_days, usage_days

SETTLED_S = 60.0
"""Younger outcomes may still change: what is kept of an accepted text is looked at after half a minute."""
DAY_S = 86_400
IN_COMMON = ("language", "adapter", "repository", "editor")
_OF = ("user", *IN_COMMON)


def day_of(at: float) -> int:
    """Since 1970, UTC."""
    return int(at // DAY_S)


def whole_days_ago(days: float) -> float:
    """The midnight before that: days that are whole have sums."""
    return float(day_of(time.time() - days * DAY_S) * DAY_S)


def unsettle(connection: Connection, days: Iterable[int]) -> None:
    """Their sums count no more. Also of no day it is a promise: whoever sums up waits for this transaction's end."""
    wanted = summed_days.c.day.in_(sorted(set(days))) & ~summed_days.c.is_final
    connection.execute(delete(summed_days).where(wanted))


def make_final(connection: Connection, limit: float) -> ColumnElement[bool]:
    """The days that begin before it, if they are summed up. Returns which completions are of final days, and may go."""
    connection.execute(update(summed_days).where(summed_days.c.day * DAY_S < limit).values(is_final=True))
    day = summed_days.c.day
    of_it = (completions.c.time >= day * DAY_S) & (completions.c.time < (day + 1) * DAY_S)
    return exists().where(summed_days.c.is_final & of_it)


def complete_since(connection: Connection) -> float:
    """Of what is older, something was deleted for its age."""
    last = connection.execute(select(func.max(summed_days.c.day)).where(summed_days.c.is_final)).scalar()
    return 0.0 if last is None else float((last + 1) * DAY_S)


def forget_before(connection: Connection, limit: float) -> None:
    """Sums of days that were over by then."""
    for table in (summed_days, usage_days, latency_days):
        connection.execute(delete(table).where((table.c.day + 1) * DAY_S <= limit))


def forget_user(connection: Connection, user: str) -> None:
    """Before their completions are deleted; their days are summed again without them, where they can be."""
    times = connection.execute(select(completions.c.time).where(completions.c.user == user)).scalars()
    unsettle(connection, map(day_of, times))
    connection.execute(delete(usage_days).where(usage_days.c.user == user))


def sum_up(engine: Engine, since: float = 0.0, until: float | None = None) -> int:
    """Sums up the days from one time to another that are over and aren't summed yet; returns how many."""
    now = time.time() - SETTLED_S
    last = day_of(min(now, now if until is None else until)) - 1
    number = 0
    for day in _unsummed(engine, since, last):
        with writing(engine) as connection:
            unhurried(connection)
            if connection.dialect.name == "postgresql":
                connection.exec_driver_sql("LOCK TABLE summed_days IN SHARE ROW EXCLUSIVE MODE")
            number += _summed(connection, day)
    return number


def settled(connection: Connection, first: int, last: int) -> frozenset[int]:
    """The days, both included, whose sums stand."""
    query = select(summed_days.c.day).where(summed_days.c.day.between(first, last))
    return frozenset(connection.execute(query).scalars())


def told(condition: ColumnElement[bool], *more: ColumnElement[Any]) -> Subquery:
    """Each completion with what was told of it, in one row. Four joins of the events took three times as long."""
    own: list[Any] = [*more, *(completions.c[name] for name in ("user", "verdict", *IN_COMMON))]
    kinds: tuple[EventKind, ...] = ("shown", "accepted", "kept", "saved")
    counts = [func.max(case((events.c.kind == kind, events.c.characters))).label(kind) for kind in kinds]
    query: Select[Any] = select(*own, *counts).select_from(completions.outerjoin(events))
    return query.where(condition).group_by(completions.c.id).subquery()


def counts(of: Subquery) -> list[ColumnElement[int]]:
    """As `feedback.store` has them: what was accepted was shown; where a client doesn't look, all of it was kept."""
    is_accepted = of.c.accepted.is_not(None)
    accepted = coalesce(of.c.accepted, 0)
    kept = coalesce(of.c.kept, of.c.saved, accepted)
    return [
        func.count().label("opportunities"),
        _number(of.c.verdict == "hide").label("hidden"),
        _number(of.c.verdict == "would_hide").label("would_hide"),
        _number(is_accepted | of.c.shown.is_not(None)).label("shown"),
        _number(is_accepted).label("accepted"),
        func.sum(case((kept < accepted, kept), else_=accepted)).label("kept_characters"),
    ]


def whole_ms() -> ColumnElement[int]:
    return cast(completions.c.latency_ms, Integer)


def between(since: float, until: float) -> ColumnElement[bool]:
    return (completions.c.time >= since) & (completions.c.time < until)


def outside(days: Collection[int], since: float, until: float) -> Sequence[tuple[float, float]]:
    """What of a time isn't in these days, as (since, until)."""
    found, start = [], since
    for day in sorted(days):
        found.append((start, float(day * DAY_S)))
        start = max(start, float((day + 1) * DAY_S))
    return [(a, b) for a, b in [*found, (start, until)] if a < b]


def _unsummed(engine: Engine, since: float, last: int) -> list[int]:
    """Those that have completions, found one after the other: a wrong clock may have put some decades apart."""
    day = -int(-since // DAY_S)
    found = []
    with engine.connect() as connection:
        done = settled(connection, day, last)
        while day <= last:
            if day not in done:
                newer = select(func.min(completions.c.time)).where(completions.c.time >= day * DAY_S)
                at = connection.execute(newer).scalar()
                day = last + 1 if at is None else day_of(at)
                if day <= last and day not in done:
                    found.append(day)
            day += 1
    return found


def _summed(connection: Connection, day: int) -> int:
    if settled(connection, day, day):
        return 0  # somebody was faster
    for table in (usage_days, latency_days):
        connection.execute(delete(table).where(table.c.day == day))
    within = between(day * DAY_S, (day + 1) * DAY_S)
    each = told(within)
    names = ["day", *_OF, *(column.name for column in counts(each))]
    own = select(literal(day).label("day"), *(each.c[name] for name in _OF), *counts(each))
    connection.execute(insert(usage_days).from_select(names, own.group_by(*(each.c[name] for name in _OF))))
    ms = whole_ms().label("ms")
    took: Select[Any] = select(literal(day).label("day"), completions.c.repository, ms, func.count().label("number"))
    took = took.where(within).group_by(completions.c.repository, "ms")
    connection.execute(insert(latency_days).from_select(["day", "repository", "ms", "number"], took))
    connection.execute(insert(summed_days).values(day=day))
    return 1


def _number(condition: ColumnElement[bool]) -> ColumnElement[int]:
    return func.sum(case((condition, 1), else_=0))
