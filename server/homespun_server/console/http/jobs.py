"""Jobs: what runs, waits and has ended; one with its progress, log and loss; and what may be done about it."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import Response

from homespun_core.errors import HomespunError
from homespun_server.access.desk import anybody
from homespun_server.console import losses
from homespun_server.console.http.web import Form, allowed, back_to, data_of, not_found, page
from homespun_server.console.sections import PATH
from homespun_server.jobs.admin import may_see, note, readable
from homespun_server.jobs.http import MAX_ID, queue_of
from homespun_server.jobs.states import Job
from homespun_server.jobs.store import NoSuchJob

router = APIRouter()

_SHOWN = 100


@router.get(f"{PATH}/jobs")
def index(request: Request) -> Response:
    who, queue = allowed(request, "jobs"), queue_of(request)
    found = queue.store.jobs(repositories=readable(who, queue), limit=_SHOWN)
    return page(request, "jobs.html", "jobs", jobs=found, workers=queue.workers(), now=queue.store.now())


@router.get(f"{PATH}/jobs/{{id}}")
def show(request: Request, id: str) -> Response:
    return _shown(request, _job(request, id))


@router.post(f"{PATH}/jobs/{{id}}")
def change(request: Request, id: str, form: Form) -> Response:
    who, job, store = allowed(request, "jobs"), _job(request, id), queue_of(request).store
    what = form.get("change", "")
    try:
        if what == "cancel":
            note(anybody(request), "job.cancel", str(job.id))
            store.cancel(job.id, who.name)
        elif what == "retry":
            note(anybody(request), "job.retry", str(job.id))
            store.retry(job.id)
        else:
            raise not_found("change")
    except HomespunError as error:
        return _shown(request, _job(request, id), status=409, error=str(error))
    return back_to(f"{PATH}/jobs/{job.id}", what)


def _job(request: Request, id: str) -> Job:
    who = allowed(request, "jobs")
    if not (id.isascii() and id.isdigit() and len(id) < 11 and int(id) <= MAX_ID):
        raise not_found("job")
    queue = queue_of(request)
    try:
        job = queue.store.get(int(id))
    except NoSuchJob:
        raise not_found("job") from None
    if not may_see(who, queue, job.repository):
        raise not_found("job")
    return job


def _shown(request: Request, job: Job, *, status: int = 200, error: str | None = None) -> Response:
    store, run = queue_of(request).store, losses.running(data_of(request), job)
    return page(
        request,
        "job.html",
        "jobs",
        status=status,
        error=error,
        job=job,
        log=store.log(job.id),
        now=store.now(),
        loss=losses.chart(run.points, run.held_out) if run else None,
    )
