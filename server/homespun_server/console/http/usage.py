"""What became of completions, over time and by what they were for."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from fastapi import APIRouter, Request
from fastapi.responses import Response

from homespun_server.access.decisions import may
from homespun_server.console import usage
from homespun_server.console.http.repositories import repositories_of
from homespun_server.console.http.web import allowed, is_recording, page, runtime_of
from homespun_server.console.plots import Day, acceptance, counts, kept, latency
from homespun_server.console.sections import PATH, whose_usage
from homespun_server.console.usage import Cell
from homespun_server.feedback.store import Summary
from homespun_server.feedback.sums import DAY_S

router = APIRouter()

_WINDOWS = (7, 30, 90)
_MAX_ROWS = 25


@router.get(f"{PATH}/usage")
def show(request: Request) -> Response:
    who = allowed(request, "usage")
    user, readable = whose_usage(who)
    readable_ids = {r.id: r.name for r in repositories_of(request, who)}
    repo = request.query_params.get("repository", "")
    chosen = frozenset([repo]) if repo in readable_ids else readable
    num_days = _window(request.query_params.get("days", ""))
    now = time.time()
    since = float((now // DAY_S - (num_days - 1)) * DAY_S)  # whole days: their sums are there
    wanted = usage.Wanted(since=since, user=user, repositories=chosen)
    database = runtime_of(request).database
    found = usage.cells(database, wanted)
    days = _days(found, usage.latencies(database, wanted), usage.days(wanted.since, now))
    teams = usage.by_team(database, wanted) if may(who, "read-usage") else {}
    return page(
        request,
        "usage.html",
        "usage",
        is_recorded=is_recording(request),
        is_own=user is not None,
        windows=_WINDOWS,
        days=num_days,
        repositories=readable_ids,
        repository=repo if repo in readable_ids else "",
        total=usage.total(found),
        charts_found=[acceptance(days), counts(days), kept(days), latency(days)],
        groups=[*_groups(found, readable_ids), *([("Team", list(teams.items()))] if teams else [])],
    )


def _window(text: str) -> int:
    return int(text) if text in map(str, _WINDOWS) else _WINDOWS[0]


def _days(found: Sequence[Cell], latencies: usage.Latencies, days: Sequence[int]) -> Sequence[Day]:
    summaries = usage.grouped(found, lambda cell: cell.day)
    return [Day(day, summaries.get(day), latencies.get(day)) for day in days]


def _groups(found: Sequence[Cell], names: Mapping[str, str]) -> list[tuple[str, list[tuple[str, Summary]]]]:
    """The first of each, by names as people know them."""
    groups = {
        "Language": usage.grouped(found, lambda cell: cell.language or "unknown"),
        "Adapter": usage.grouped(found, lambda cell: cell.adapter or "base model"),
        "Repository": usage.grouped(found, lambda cell: names.get(cell.repository or "", cell.repository or "none")),
        "Editor": usage.grouped(found, lambda cell: cell.editor or "unknown"),
    }
    return [(title, list(rows.items())[:_MAX_ROWS]) for title, rows in groups.items()]
