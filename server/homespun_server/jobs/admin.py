"""Jobs for people: JSON under /v1/homespun/admin/jobs, and what changes as server-sent events."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from typing import Annotated, Any, Literal

from fastapi import APIRouter, HTTPException, Query, Request
from fastapi.responses import StreamingResponse
from sqlalchemy.exc import DBAPIError

from homespun_server.access.http import principal_of
from homespun_server.access.principal import Principal
from homespun_server.jobs.http import Ask, explained, is_stopping, queue_of, within
from homespun_server.jobs.queue import Queue
from homespun_server.jobs.states import WORKER_KINDS, Job, State
from homespun_server.jobs.store import NoSuchJob
from homespun_server.jobs.view import view

PATH = "/v1/homespun/admin/jobs"
_EVERY_S = 1.0
_ALIVE_S = 15.0
_Kind = Literal["index", "train", "evaluate", "notify"]

router = APIRouter(prefix=PATH, tags=["jobs"])


def manager(request: Request) -> Principal:
    """Whoever may see and change jobs, which is those about repositories they may read."""
    principal = principal_of(request)
    if principal.role not in ("admin", "repo-admin") or "admin" not in principal.scopes:
        raise HTTPException(403, "jobs are for admins")
    return principal


@router.get("")
def listed(
    request: Request,
    state: Annotated[list[State] | None, Query()] = None,
    kind: Annotated[list[_Kind] | None, Query()] = None,
    repository: str | None = None,
    limit: Annotated[int, Query(ge=1, le=1_000)] = 100,
) -> dict[str, Any]:
    """Newest first, and the workers that are there."""
    principal, queue = manager(request), queue_of(request)
    with explained():
        jobs = queue.store.jobs(
            states=state, kinds=kind or WORKER_KINDS, repositories=_readable(principal, repository), limit=limit
        )
    return {"jobs": [view(job) for job in jobs], "workers": _workers(queue)}


@router.post("", status_code=201)
def add(request: Request, wanted: Ask) -> dict[str, Any]:
    """A job that waits already is that one, about the newest commit. Others than admins name what is indexed here."""
    principal, queue = manager(request), queue_of(request)
    with explained():
        if principal.readable is not None:
            _check(principal, queue.repository_of(wanted.repository))
        job = queue.ask(
            wanted.kind,
            wanted.repository,
            commit=wanted.commit,
            priority=wanted.priority,
            asked_by=principal.name,
            known=principal.role != "admin",
        )
    return view(job)


@router.get("/events")
async def events(request: Request) -> StreamingResponse:
    """`event: jobs` with those that are open or have just ended, whenever that changes."""
    principal, queue = manager(request), queue_of(request)
    return StreamingResponse(
        _changes(request, principal, queue), media_type="text/event-stream", headers={"Cache-Control": "no-store"}
    )


@router.get("/{id}")
def one(request: Request, id: int) -> dict[str, Any]:
    return view(_job(request, id))


@router.get("/{id}/log")
def log(request: Request, id: int) -> dict[str, str]:
    """The end of what its worker printed: no code is in it."""
    job = _job(request, id)
    with explained():
        return {"log": queue_of(request).store.log(job.id)}


@router.post("/{id}/cancel")
def cancel(request: Request, id: int) -> dict[str, Any]:
    job = _job(request, id)
    with explained():
        return view(queue_of(request).store.cancel(job.id, principal_of(request).name))


@router.post("/{id}/retry")
def retry(request: Request, id: int) -> dict[str, Any]:
    job = _job(request, id)
    with explained():
        return view(queue_of(request).store.retry(job.id))


def _job(request: Request, id: int) -> Job:
    """To others than its readers, a job isn't there."""
    principal = manager(request)
    with explained():
        job = queue_of(request).store.get(within(id))
        _check(principal, job.repository)
    return job


def _check(principal: Principal, repository: str) -> None:
    if not principal.may_read(repository):
        raise NoSuchJob("there is nothing of that name that you may see")


def _readable(principal: Principal, wanted: str | None) -> list[str] | None:
    if wanted is not None:
        return [wanted] if principal.may_read(wanted) else []
    return None if principal.readable is None else sorted(principal.readable)


def _workers(queue: Queue) -> list[dict[str, Any]]:
    now = time.monotonic()
    return [
        {"name": worker.name, "kinds": sorted(worker.kinds), "seen_s_ago": round(now - worker.seen, 1)}
        for worker in queue.workers()
    ]


async def _changes(request: Request, principal: Principal, queue: Queue) -> AsyncIterator[str]:
    last, said = "", time.monotonic()
    while not is_stopping(request):
        try:
            now = json.dumps(await asyncio.to_thread(_current, principal, queue))
        except DBAPIError:  # the database is away: what is shown stays
            now = last
        if now != last:
            yield f"event: jobs\ndata: {now}\n\n"
            last, said = now, time.monotonic()
        elif time.monotonic() - said > _ALIVE_S:
            yield ": alive\n\n"
            said = time.monotonic()
        await asyncio.sleep(_EVERY_S)


def _current(principal: Principal, queue: Queue) -> list[dict[str, Any]]:
    newest = queue.store.jobs(repositories=_readable(principal, None), limit=50)
    return [view(job) for job in newest]
