"""The routes of workers: lease a job, be heard from, report. They show the workers' token."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import Annotated, Any, Literal, ParamSpec, TypeVar

from fastapi import APIRouter, HTTPException, Query, Request
from fastapi.responses import JSONResponse, Response
from fastapi.routing import APIRoute
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as NoConnectionError
from starlette.exceptions import HTTPException as StarletteHTTPException

from homespun_server.connections import at_most
from homespun_server.dialects import BadRequestError
from homespun_server.dialects.schemas import COUNT, FLAG, NUMBER, TEXT, Schema, listed, optional, reply
from homespun_server.jobs.queue import Queue
from homespun_server.jobs.states import Ending, Job, Refused, State
from homespun_server.jobs.store import NoSuchJob, Step
from homespun_server.jobs.view import HIDDEN, leased, view
from homespun_server.routes.described import telling

PATH = "/v1/homespun/jobs"
MAX_ID = 2**31 - 1
_LONGEST_WAIT_S = 30.0
_LOOK_S = 0.25
_MAX_BODY_BYTES = 1_000_000
"""Of a report with a log of 500 lines, which are cut to 1,000 characters."""
_THREADS = ThreadPoolExecutor(4, thread_name_prefix="jobs")
"""Of those who wait: while the database doesn't answer, completions must not wait for a thread."""
_Params = ParamSpec("_Params")
_Result = TypeVar("_Result")
_WorkerKind = Literal["index", "train", "evaluate"]
_Line = Annotated[str, Field(max_length=1_000)]
_Id = Annotated[int, Field(ge=1, le=MAX_ID)]


def _job_schema() -> Schema:
    """As `view` shows it."""
    properties = TypeAdapter(Job).json_schema()["properties"]
    return reply(**{name: schema for name, schema in properties.items() if name not in HIDDEN})


JOB = _job_schema()
LEASED = reply(**JOB["properties"], fence=COUNT, lease_s=NUMBER)


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Wanted(_Strict):
    worker: str = Field(min_length=1, max_length=128, description="A name that no other worker has.")
    kinds: list[_WorkerKind] = Field(min_length=1, max_length=3)
    wait_s: float = Field(default=0.0, ge=0, le=_LONGEST_WAIT_S)


class Sign(_Strict):
    job: _Id
    fence: int = Field(ge=0, lt=2**63)
    fraction: float | None = Field(default=None, ge=0, le=1)
    words: str = Field(default="", max_length=200)
    eta_s: float | None = Field(default=None, ge=0, le=1e9)
    log: list[_Line] = Field(default=[], max_length=500)


class Report(_Strict):
    job: _Id
    fence: int = Field(ge=0, lt=2**63)
    ending: Ending
    reason: str = Field(default="", max_length=2_000)
    result: str = Field(default="", max_length=8_000)
    pause_s: float | None = Field(default=None, ge=0, le=86_400)
    log: list[_Line] = Field(default=[], max_length=500)


class Ask(_Strict):
    kind: _WorkerKind
    repository: str = Field(min_length=1, max_length=2_000, description="Id, name, path or URL.")
    commit: str | None = Field(default=None, pattern="^[0-9a-f]{7,64}$")
    priority: int = Field(default=0, ge=-100, le=100)


def queue_of(request: Request) -> Queue:
    queue = request.app.state.jobs
    assert isinstance(queue, Queue)
    return queue


def _workers_only(request: Request) -> None:
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not queue_of(request).is_worker(token.strip()):
        raise HTTPException(401, "the workers' token is needed", {"WWW-Authenticate": "Bearer"})


class _WorkersRoute(APIRoute):
    """Looks at the token before the body: whoever may not ask has nothing of theirs read."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        answer = super().get_route_handler()

        async def checked(request: Request) -> Response:
            _workers_only(request)
            try:
                return await answer(Request(request.scope, at_most(_MAX_BODY_BYTES, request.receive)))
            except StarletteHTTPException as error:  # FastAPI calls whatever fails while it reads a body a 400
                if isinstance(error.__cause__, BadRequestError):
                    raise error.__cause__ from None
                raise

        return checked


router = APIRouter(prefix=PATH, tags=["workers"], route_class=_WorkersRoute)


@contextmanager
def explained() -> Iterator[None]:
    """What can go wrong with the queue, as statuses."""
    try:
        yield
    except NoSuchJob as error:
        raise HTTPException(404, str(error)) from None
    except Refused as error:
        raise HTTPException(409, str(error)) from None
    except (DBAPIError, NoConnectionError):
        raise HTTPException(503, "the database can't be reached; try again", {"Retry-After": "2"}) from None


async def apart(do: Callable[_Params, _Result], *args: _Params.args, **kwargs: _Params.kwargs) -> _Result:
    return await asyncio.get_running_loop().run_in_executor(_THREADS, partial(do, *args, **kwargs))


@router.post(
    "/lease",
    responses={204: {"description": "There is nothing to do."}},
    **telling(LEASED),
)
async def lease(request: Request, wanted: Wanted) -> Response:
    """The next job, waited for if need be."""
    queue, until = queue_of(request), time.monotonic() + wanted.wait_s
    while True:
        with explained():
            job = await apart(queue.lease, wanted.worker, wanted.kinds)
        if job is not None:
            return JSONResponse(leased(job, queue.store.lease_s))
        if time.monotonic() >= until or is_stopping(request) or await request.is_disconnected():
            return Response(status_code=204)
        await asyncio.sleep(_LOOK_S)


@router.post("/heartbeat", **telling(reply(is_unwanted=FLAG)))
def heartbeat(request: Request, sign: Sign) -> dict[str, Any]:
    """Keeps the lease. 409: it has ended, so stop and publish nothing."""
    step = Step(fraction=sign.fraction, words=sign.words, eta_s=sign.eta_s)
    with explained():
        job = queue_of(request).store.beat(sign.job, sign.fence, step, sign.log)
    queue_of(request).heard_from(job.worker or "")
    return {"is_unwanted": job.is_unwanted}


@router.post("/report", **telling(JOB))
def report(request: Request, told: Report) -> dict[str, Any]:
    """What became of the job; it is not this worker's any more."""
    with explained():
        job = queue_of(request).store.report(
            told.job,
            told.fence,
            told.ending,
            reason=told.reason,
            result=told.result,
            log=told.log,
            pause_s=told.pause_s,
        )
    return view(job)


@router.post("/ask", **telling(JOB))
def ask(request: Request, wanted: Ask) -> dict[str, Any]:
    """For whoever decides by itself what is to be done (`homespun retrain`)."""
    with explained():
        job = queue_of(request).ask(
            wanted.kind,
            wanted.repository,
            commit=wanted.commit,
            priority=wanted.priority,
            asked_by="homespun retrain",
            known=False,
        )
    return view(job)


@router.get("/due", **telling(reply(due=COUNT, running=listed(reply(repository=TEXT, worker=optional(TEXT))))))
def due(request: Request, kind: Annotated[list[_WorkerKind], Query(min_length=1, max_length=3)]) -> dict[str, Any]:
    """How many jobs a worker would be given now, and who is at work on which: for whoever starts workers (`homespun
    dispatch`)."""
    with explained():
        store, is_running = queue_of(request).store, frozenset[State](("running",))
        running = [
            {"repository": job.repository, "worker": job.worker} for job in store.jobs(states=is_running, kinds=kind)
        ]
        return {"due": store.num_due(kind), "running": running}


@router.get("/{id}", **telling(JOB))
def one(request: Request, id: int) -> dict[str, Any]:
    with explained():
        return view(queue_of(request).store.get(within(id)))


@router.get("/{id}/log", **telling(reply(log=TEXT)))
def log(request: Request, id: int) -> dict[str, str]:
    """For whoever waits for it."""
    with explained():
        return {"log": queue_of(request).store.log(within(id))}


@router.post("/{id}/cancel", **telling(JOB))
def cancel(request: Request, id: int) -> dict[str, Any]:
    with explained():
        return view(queue_of(request).store.cancel(within(id), "homespun retrain"))


def within(id: int) -> int:
    """Larger numbers than the database has are nobody's."""
    if not 0 < id <= MAX_ID:
        raise NoSuchJob(f"there is no job {id}")
    return id


def is_stopping(request: Request) -> bool:
    """Whether the server is about to end, and waits for those who wait for something."""
    return bool(request.app.state.is_stopping())
