"""The first page."""

from __future__ import annotations

import time

from fastapi import APIRouter, Request
from fastapi.responses import Response

from homespun_core import __version__
from homespun_server.access.decisions import may
from homespun_server.access.principal import Principal
from homespun_server.console import adapters, overview, usage
from homespun_server.console.http.repositories import repositories_of
from homespun_server.console.http.web import allowed, data_of, is_recording, page, runtime_of
from homespun_server.console.sections import PATH, may_see, whose_usage
from homespun_server.feedback.summary import Summary
from homespun_server.feedback.sums import DAY_S
from homespun_server.jobs.admin import readable
from homespun_server.jobs.http import queue_of
from homespun_server.jobs.states import Job

router = APIRouter()

_FAILED = 5


@router.get(PATH)
def show(request: Request) -> Response:
    who = allowed(request, "overview")
    runtime, data = runtime_of(request), data_of(request)
    state = runtime.state(who)
    found = repositories_of(request, who)
    today = _today(request, who)
    known = {repo: adapters.facts_of(data, repo) for repo in adapters.readable(data, who)}
    return page(
        request,
        "overview.html",
        "overview",
        health=overview.health(state),
        state=state,
        version=__version__,
        problems=state.get("problems", []) if may(who, "manage-repositories") else [],
        steps=overview.steps(
            [one for one in found if one.state != "none"],
            url=runtime.settings.public_url.rstrip("/") or str(request.base_url).rstrip("/"),
            has_completions=bool(today and today.opportunities),
            is_owner=may_see(who, "repositories"),
            has_accounts=runtime.lookup.has_accounts,
        ),
        may_add=may(who, "manage-people"),
        tiles=overview.tiles(today),
        repositories=found,
        failed=_failed(request, who) if may_see(who, "jobs") else [],
        waiting=overview.waiting(known) if may_see(who, "adapters") else [],
        opens_repositories=may_see(who, "repositories"),
    )


def _today(request: Request, who: Principal) -> Summary | None:
    if not is_recording(request):
        return None
    user, readable = whose_usage(who)
    wanted = usage.Wanted(since=time.time() - DAY_S, user=user, repositories=readable)
    return usage.total(usage.cells(runtime_of(request).database, wanted))


def _failed(request: Request, who: Principal) -> list[Job]:
    """Jobs that ended badly in the last day."""
    queue = queue_of(request)
    store, wanted = queue.store, readable(who, queue)
    found = store.jobs(states=("failed", "poisoned"), repositories=wanted, limit=_FAILED)
    return [job for job in found if job.ended is not None and store.now() - job.ended < DAY_S]
