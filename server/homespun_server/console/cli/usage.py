"""`homespun usage`: what became of completions, as the console's page has it."""

from __future__ import annotations

import argparse
import json
import re
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime
from typing import Any

from sqlalchemy import Engine

from homespun_core.config import ADAPTERS
from homespun_core.errors import ConfigError
from homespun_core.loading import add_flags, settings_from_args
from homespun_core.paths import DataDir
from homespun_server.access.cli.opened import table
from homespun_server.console import usage, words
from homespun_server.console.usage import Cell, Latencies, Wanted
from homespun_server.database.opening import open_database
from homespun_server.feedback.summary import Summary
from homespun_server.feedback.sums import DAY_S

_EPILOG = """\
A place is one where a completion was asked for. Days are those of UTC; today counts as far as it has come, but for its
last minute. No code is in any of it, and no names: numbers of one person are their own (in the console).

examples:
  homespun usage                              the last 30 days, day by day, with times of completions
  homespun usage --by team --since 90d        who is in several teams counts for each
  homespun usage --by adapter --daily         a line for each adapter and day
  homespun usage --by language --since 2026-10-01 --json
"""
_SHARES = {"p50": 0.5, "p95": 0.95, "p99": 0.99}
_UNIT_DAYS = {"d": 1, "w": 7}


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    day: str | None
    """None: of all days together."""
    name: str | None
    summary: Summary
    latency_ms: Mapping[str, float | None] | None = None
    """Percentiles; only by day alone, and of all together: of others they aren't counted."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = _EPILOG
    parser.add_argument(
        "--by", choices=("day", "team", *usage.NAME_OF), default="day", help="a line for each (default: day)"
    )
    parser.add_argument("--daily", action="store_true", help="each day apart")
    parser.add_argument("--since", default="30d", metavar="TIME", help="30d, 12w or a date, 2026-10-01 (default: 30d)")
    parser.add_argument("--json", action="store_true", help="print it as JSON")
    add_flags(parser, (ADAPTERS,))


def run(args: argparse.Namespace) -> int:
    now = time.time()
    wanted = Wanted(since=float(first_day(args.since, now) * DAY_S))
    settings = settings_from_args(args).settings
    engine = open_database(settings.database_url, DataDir(settings.data_root).database)
    try:
        rows = rows_of(engine, wanted, args.by, is_daily=args.daily or args.by == "day")
    finally:
        engine.dispose()
    print(json.dumps(as_json(rows, args.by, wanted), indent=1) if args.json else render(rows, args.by, wanted))
    return 0


def first_day(text: str, now: float) -> int:
    """Since 1970: of so many days, today included, or a date. Raises ConfigError."""
    today = int(now // DAY_S)
    if match := re.fullmatch(r"([1-9]\d{0,4})([dw])", text.strip()):
        return max(0, today - int(match[1]) * _UNIT_DAYS[match[2]] + 1)
    try:
        day = int(datetime.combine(date.fromisoformat(text.strip()), datetime.min.time(), UTC).timestamp() // DAY_S)
    except ValueError:
        raise ConfigError(f"--since: {text!r} is neither a time like 30d or 12w nor a date like 2026-10-01") from None
    if not 0 <= day <= today:
        raise ConfigError(f"--since: {text}: lies in the future, or before 1970; give a date that is past")
    return day


def rows_of(engine: Engine, wanted: Wanted, by: str, *, is_daily: bool) -> list[Row]:
    """All together first."""
    cells, latencies = usage.cells(engine, wanted), usage.latencies(engine, wanted)
    whole = Row(day=None, name=None, summary=usage.total(cells), latency_ms=_percentiles(latencies.values()))
    if by == "day":
        return [whole, *_by_day(cells, latencies)]
    found: Sequence[tuple[int, str, Summary]]
    if by == "team":
        found = [(cell.day, cell.team, cell.summary) for cell in usage.team_cells(engine, wanted)]
    else:
        found = [(cell.day, usage.NAME_OF[by](cell), cell.summary) for cell in cells]
    keyed = usage.added_up(((day if is_daily else None, name), summary) for day, name, summary in found)
    rows = [Row(day=None if day is None else _date(day), name=name, summary=s) for (day, name), s in keyed.items()]
    return [whole, *sorted(rows, key=lambda row: row.day or "")]


def _by_day(cells: Sequence[Cell], latencies: Latencies) -> list[Row]:
    by_day = usage.grouped(cells, lambda cell: cell.day)
    return [
        Row(day=_date(day), name=None, summary=by_day[day], latency_ms=_percentiles([latencies.get(day, Counter())]))
        for day in sorted(by_day)
    ]


def _percentiles(counts: Any) -> dict[str, float | None]:
    together = sum(counts, Counter[int]())
    return {name: usage.percentile(together, share) for name, share in _SHARES.items()}


def as_json(rows: Sequence[Row], by: str, wanted: Wanted) -> dict[str, Any]:
    whole, *others = [
        {
            **{key: value for key, value in (("day", row.day), (by, row.name)) if value is not None},
            **asdict(row.summary),
            "acceptance": row.summary.acceptance if row.summary.shown else None,
            "kept_per_opportunity": row.summary.kept_per_opportunity,
            **({"latency_ms": dict(row.latency_ms)} if row.latency_ms is not None else {}),
        }
        for row in rows
    ]
    return {"since": _date(int(wanted.since // DAY_S)), "by": by, "total": whole, "rows": others}


def render(rows: Sequence[Row], by: str, wanted: Wanted) -> str:
    since = _date(int(wanted.since // DAY_S))
    if not rows[0].summary.opportunities:
        return (
            f"no completions since {since}; they are counted a minute after they were made, while `homespun serve` runs"
            " with feedback_days above 0"
        )
    has_days, has_names = any(row.day for row in rows), by != "day"
    names = (*(["day"] if has_days else []), *([by] if has_names else []))
    head = (*names, "places", "shown", "accepted", "", "kept chars", "a place", "median", "95 %", "99 %")
    cells = [_line(row, has_days, has_names) for row in [*rows[1:], rows[0]]]
    cells[-1] = (f"since {since}", *cells[-1][1:])
    filled = [column for column in range(len(head)) if any(line[column] for line in cells)]
    return table([[line[column] for column in filled] for line in [head, *cells]])


def _line(row: Row, has_days: bool, has_names: bool) -> tuple[str, ...]:
    found = row.summary
    return (
        *([row.day or ""] if has_days else []),
        *([row.name or ""] if has_names else []),
        words.count(found.opportunities),
        words.count(found.shown),
        words.count(found.accepted),
        words.percent(found.acceptance if found.shown else None),
        words.count(found.kept_characters),
        words.decimal(found.kept_per_opportunity),
        *(words.milliseconds(row.latency_ms[name]) if row.latency_ms else "" for name in _SHARES),
    )


def _date(day: int) -> str:
    return datetime.fromtimestamp(day * DAY_S, UTC).strftime("%Y-%m-%d")
