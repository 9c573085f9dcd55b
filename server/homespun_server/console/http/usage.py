"""What became of completions, over time and by what they were for."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from fastapi import APIRouter, Request
from fastapi.responses import Response

from homespun_server.console import usage
from homespun_server.console.http.repositories import repositories_of
from homespun_server.console.http.web import allowed, is_recording, page, runtime_of
from homespun_server.console.plots import Day, acceptance, counts, kept, latency
from homespun_server.console.sections import PATH, whose_usage
from homespun_server.feedback.store import Summary

router = APIRouter()

_WINDOWS = (7, 30, 90)
_GROUPS = {"language": "Language", "adapter": "Adapter", "repository": "Repository", "editor": "Editor"}
_UNKNOWN = {"adapter": "base model"}
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
    wanted = usage.Wanted(since=now - (num_days - 1) * usage.DAY_S, user=user, repositories=chosen)
    found = _days(request, wanted, now)
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
        total=usage.total(runtime_of(request).database, wanted),
        charts_found=[acceptance(found), counts(found), kept(found), latency(found)],
        groups=[(title, _group(request, wanted, column, readable_ids)) for column, title in _GROUPS.items()],
    )


def _window(text: str) -> int:
    return int(text) if text in map(str, _WINDOWS) else _WINDOWS[0]


def _days(request: Request, wanted: usage.Wanted, now: float) -> Sequence[Day]:
    database = runtime_of(request).database
    summaries, latencies = usage.by_day(database, wanted), usage.latencies(database, wanted)
    return [Day(day, summaries.get(day), latencies.get(day)) for day in usage.days(wanted.since, now)]


def _group(
    request: Request, wanted: usage.Wanted, column: str, names: Mapping[str, str]
) -> Sequence[tuple[str, Summary]]:
    """The first so many by name, as people know it."""
    found = usage.by_column(runtime_of(request).database, wanted, column)
    rows = [(names.get(value, value) if value else _UNKNOWN.get(column, "unknown"), s) for value, s in found.items()]
    return rows[:_MAX_ROWS]
