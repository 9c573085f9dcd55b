"""Jobs for people: JSON under /v1/homespun/admin/jobs, and what changes as server-sent events."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import StreamingResponse
from sqlalchemy.exc import DBAPIError

from homespun_core.errors import ConfigError
from homespun_core.paths import DataDir, hide_credentials
from homespun_server.access.desk import Desk, for_those_who
from homespun_server.access.principal import Principal
from homespun_server.console import losses
from homespun_server.dialects import schemas
from homespun_server.dialects.schemas import NUMBER, TEXT, reply
from homespun_server.jobs.http import JOB, Ask, apart, explained, is_stopping, queue_of, within
from homespun_server.jobs.queue import Queue
from homespun_server.jobs.states import WORKER_KINDS, Job, State
from homespun_server.jobs.store import NoSuchJob
from homespun_server.jobs.view import view
from homespun_server.routes.described import telling

PATH = "/v1/homespun/admin/jobs"
_EVERY_S = 1.0
LASTS_S = 4.0
"""Then a browser asks again, by itself: who was turned out meanwhile hears no more."""
_AGAIN_MS = 250
_WORKER = reply(name=TEXT, kinds=schemas.listed(TEXT), seen_s_ago=NUMBER)
_NOTHING = "there is nothing of that name that you may see"
_Kind = Literal["index", "train", "evaluate", "notify"]

router = APIRouter(prefix=PATH, tags=["jobs"])

Manager = Annotated[Desk, Depends(for_those_who("manage-repositories"))]
"""Of jobs about repositories they may read; to others, those aren't there."""


@router.get("", **telling(reply(jobs=schemas.listed(JOB), workers=schemas.listed(_WORKER))))
def listed(
    request: Request,
    desk: Manager,
    state: Annotated[list[State] | None, Query()] = None,
    kind: Annotated[list[_Kind] | None, Query()] = None,
    repository: str | None = None,
    limit: Annotated[int, Query(ge=1, le=1_000)] = 100,
) -> dict[str, Any]:
    """Newest first, and the workers that are there."""
    queue = queue_of(request)
    with explained():
        jobs = queue.store.jobs(
            states=state,
            kinds=kind or WORKER_KINDS,
            repositories=_wanted(desk.principal, queue, repository),
            limit=limit,
        )
    return {"jobs": [view(job) for job in jobs], "workers": _workers(queue)}


@router.post("", status_code=201, **telling(JOB, 201))
def add(request: Request, desk: Manager, wanted: Ask) -> dict[str, Any]:
    """A job that waits already is that one, about the newest commit. Others than admins name what is indexed here."""
    queue = queue_of(request)
    with explained():
        if desk.principal.readable is not None:
            _check(desk.principal, queue, _known(queue, wanted.repository))
        note(desk, "job.add", f"{wanted.kind} {hide_credentials(wanted.repository)}")
        job = queue.ask(
            wanted.kind,
            wanted.repository,
            commit=wanted.commit,
            priority=wanted.priority,
            asked_by=desk.principal.name,
            known=desk.principal.role != "admin",
        )
    return view(job)


@router.get(
    "/events",
    response_class=StreamingResponse,
    responses={200: {"description": "Server-sent events.", "content": {"text/event-stream": {}}}},
)
async def events(request: Request, desk: Manager) -> StreamingResponse:
    """`event: jobs` with the newest, at once and whenever they change. Ends after some seconds; ask again then, as an
    EventSource does."""
    changes = _changes(request, desk.principal, queue_of(request))
    return StreamingResponse(changes, media_type="text/event-stream", headers={"Cache-Control": "no-store"})


@router.get("/{id}", **telling(JOB))
def one(request: Request, desk: Manager, id: int) -> dict[str, Any]:
    """Of a training that runs on this machine, the loss so far too: pairs of seconds and loss."""
    job = _job(request, desk.principal, id)
    run = losses.running(DataDir(desk.runtime.settings.data_root), job)
    return view(job) | ({"loss": run.points, "held_out_loss": run.held_out} if run else {})


@router.get("/{id}/log", **telling(reply(log=TEXT)))
def log(request: Request, desk: Manager, id: int) -> dict[str, str]:
    """The end of what its worker printed: no code is in it."""
    job = _job(request, desk.principal, id)
    with explained():
        return {"log": queue_of(request).store.log(job.id)}


@router.post("/{id}/cancel", **telling(JOB))
def cancel(request: Request, desk: Manager, id: int) -> dict[str, Any]:
    job = _job(request, desk.principal, id)
    with explained():
        note(desk, "job.cancel", str(job.id))
        return view(queue_of(request).store.cancel(job.id, desk.principal.name))


@router.post("/{id}/retry", **telling(JOB))
def retry(request: Request, desk: Manager, id: int) -> dict[str, Any]:
    job = _job(request, desk.principal, id)
    with explained():
        note(desk, "job.retry", str(job.id))
        return view(queue_of(request).store.retry(job.id))


def _job(request: Request, principal: Principal, id: int) -> Job:
    queue = queue_of(request)
    with explained():
        job = queue.store.get(within(id))
        _check(principal, queue, job.repository)
    return job


def note(desk: Desk, action: str, what: str) -> None:
    """Before it is done: what can't be noted isn't done."""
    with desk.changing() as change:
        change.note(action, what)


def may_see(principal: Principal, queue: Queue, repository: str) -> bool:
    """Whoever may read all that its jobs are about: the log of a shared adapter tells of each of its repositories."""
    return principal.readable is None or queue.parts(repository) <= principal.readable


def readable(principal: Principal, queue: Queue) -> list[str] | None:
    """Ids of those whose jobs somebody may see; None is all there are."""
    if principal.readable is None:
        return None
    return sorted(id for id in principal.readable if may_see(principal, queue, id))


def _known(queue: Queue, word: str) -> str:
    """Nobody hears of a name that it is there, but not theirs."""
    try:
        return queue.repository_of(word)
    except ConfigError:
        raise NoSuchJob(_NOTHING) from None


def _check(principal: Principal, queue: Queue, repository: str) -> None:
    if not may_see(principal, queue, repository):
        raise NoSuchJob(_NOTHING)


def _wanted(principal: Principal, queue: Queue, repository: str | None) -> list[str] | None:
    if repository is None:
        return readable(principal, queue)
    return [repository] if may_see(principal, queue, repository) else []


def _workers(queue: Queue) -> list[dict[str, Any]]:
    now = time.monotonic()
    return [
        {"name": worker.name, "kinds": sorted(worker.kinds), "seen_s_ago": round(now - worker.seen, 1)}
        for worker in queue.workers()
    ]


async def _changes(request: Request, principal: Principal, queue: Queue) -> AsyncIterator[str]:
    last, end = "", time.monotonic() + LASTS_S
    yield f"retry: {_AGAIN_MS}\n\n"
    while not is_stopping(request) and time.monotonic() < end:
        try:
            now = json.dumps(await apart(_current, principal, queue))
        except DBAPIError:  # the database is away: what is shown stays
            now = last
        if now != last:
            yield f"event: jobs\ndata: {now}\n\n"
            last = now
        await asyncio.sleep(_EVERY_S)


def _current(principal: Principal, queue: Queue) -> list[dict[str, Any]]:
    newest = queue.store.jobs(repositories=readable(principal, queue), limit=50)
    return [view(job) for job in newest]
