"""What came of each user's completions in numbers that the database makes: all that a comparison of arms asks for."""

from __future__ import annotations

from array import array
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from statistics import quantiles

from sqlalchemy import ColumnElement, Connection, select

from homespun_server.feedback.summary import Summary, added, summary_of
from homespun_server.feedback.sums import counts, told
from homespun_server.feedback.tables import completions

_BATCH = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """Of one user in one arm."""

    summary: Summary
    latencies_ms: Sequence[float]
    """Of each opportunity, in no order."""


Arm = Mapping[str, Tally]
"""By user. Whoever doesn't say who they are isn't drawn by lot, and is in none."""


def total(arm: Arm) -> Summary:
    return added(tally.summary for tally in arm.values())


def p95_ms(arm: Arm) -> float | None:
    """The latencies' 95th percentile; None of fewer than two."""
    every = list(chain.from_iterable(tally.latencies_ms for tally in arm.values()))
    return quantiles(every, n=20, method="inclusive")[-1] if len(every) > 1 else None


def arms(
    connection: Connection, by: ColumnElement[str | None], values: Collection[str | None], wanted: ColumnElement[bool]
) -> Mapping[str | None, Arm]:
    """Of the completions that are wanted, one for each of these values of a column. Eight bytes a completion; all else
    grows with the users only."""
    wanted &= (completions.c.user != "") & _is_one_of(by, values)
    took = _latencies(connection, by, wanted)
    each = told(wanted, by.label("arm"))
    of = (each.c.arm, each.c.user)
    found: dict[str | None, dict[str, Tally]] = {value: {} for value in values}
    for row in connection.execute(select(*of, *counts(each)).group_by(*of)):
        found[row.arm][row.user] = Tally(summary=summary_of(row), latencies_ms=took[row.arm, row.user])
    return found


def _latencies(
    connection: Connection, by: ColumnElement[str | None], wanted: ColumnElement[bool]
) -> defaultdict[tuple[str | None, str], array[float]]:
    found = defaultdict[tuple[str | None, str], "array[float]"](lambda: array("d"))
    query = select(by, completions.c.user, completions.c.latency_ms).where(wanted)
    for arm, user, ms in connection.execute(query, execution_options={"yield_per": _BATCH}):
        found[arm, user].append(ms)
    return found


def _is_one_of(column: ColumnElement[str | None], values: Collection[str | None]) -> ColumnElement[bool]:
    named = column.in_([value for value in values if value is not None])
    return named | column.is_(None) if None in values else named
