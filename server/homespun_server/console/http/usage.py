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
from homespun_server.feedback.summary import Summary
from homespun_server.feedback.sums import DAY_S

router = APIRouter()

_WINDOWS = (7, 30, 90)
_MAX_ROWS = 25

Group = list[tuple[str, int, Summary]]
"""What is counted under a name on a day."""


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
    groups = _groups(found, readable_ids)
    if may(who, "read-usage"):
        groups["team"] = [(cell.team, cell.day, cell.summary) for cell in usage.team_cells(database, wanted)]
    by, name = (request.query_params.get(key, "") for key in ("by", "name"))
    one = [(day, summary) for other, day, summary in groups.get(by, ()) if other == name]
    summaries = usage.added_up(one or ((cell.day, cell.summary) for cell in found))
    latencies = {} if one else usage.latencies(database, wanted)  # of a group they aren't counted
    days = [Day(day, summaries.get(day), latencies.get(day)) for day in usage.days(wanted.since, now)]
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
        by=by if one else "",
        name=name,
        charts_found=[acceptance(days), counts(days), kept(days), *([] if one else [latency(days)])],
        groups=[(by, _rows(group)) for by, group in groups.items() if group or by != "team"],
    )


def _window(text: str) -> int:
    return int(text) if text in map(str, _WINDOWS) else _WINDOWS[0]


def _groups(found: Sequence[Cell], names: Mapping[str, str]) -> dict[str, Group]:
    """By names as people know them."""

    def known(cell: Cell) -> str:
        return names.get(cell.repository or "", usage.NAME_OF["repository"](cell))

    named = {**usage.NAME_OF, "repository": known}
    return {by: [(name(cell), cell.day, cell.summary) for cell in found] for by, name in named.items()}


def _rows(group: Group) -> Sequence[tuple[str, Summary]]:
    """The first of it."""
    return list(usage.added_up((name, summary) for name, _, summary in group).items())[:_MAX_ROWS]
