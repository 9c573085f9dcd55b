"""From a call of any dialect to its HTTP response."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Mapping, Sequence
from contextlib import aclosing
from typing import Any, TypeVar

from fastapi import Request
from fastapi.responses import JSONResponse, Response, StreamingResponse

from homespun_core.errors import ServiceError
from homespun_core.types import Completion
from homespun_server.access.http import bound, charge
from homespun_server.dialects import BadRequestError, parse_body
from homespun_server.dialects.calls import Call, Sample, Stamp, Told, samples
from homespun_server.lane import refusal
from homespun_server.routes.choices import BESIDE, News, together
from homespun_server.runtime import Loaded, Runtime

MAX_BODY_BYTES = 2_000_000
_CLIENT_CLOSED = 499
_Result = TypeVar("_Result")


async def answer(request: Request, call: Call) -> Response:
    """Every completion passes here, and is limited to what its user may read."""
    loaded = loaded_of(request)
    call = call.bounded(lambda wanted: bound(request, wanted))
    stamp = Stamp(id=_new_id(), created=time.time(), model=call.model or model_name(loaded))
    wanted = samples(call)
    if not any(sample.request.max_new_tokens for sample in wanted) and not request.state.places.make_way():
        runtime_of(request).metrics.prepared.labels("shed").inc()
        return refusal(request.url.path)
    news = together(loaded.completer, wanted, stamp.id, _counted(request, wanted))
    if call.is_stream:
        return await _streamed(request, news, call, stamp)
    completions = await _unless_gone(request, _completions(news))
    if completions is None:
        return Response(status_code=_CLIENT_CLOSED)
    return JSONResponse(call.reply(completions, stamp))


def _counted(request: Request, wanted: Sequence[Sample]) -> int:
    """Counts each as a request, and takes places for as many as are computed at a time; how many. Raises
    TooOftenError."""
    charge(request, len(wanted) - 1)
    return 1 + int(request.state.places.take(min(BESIDE, len(wanted)) - 1))


async def body_of(request: Request) -> Mapping[str, Any]:
    """The JSON object sent, read no further than the limit."""
    parts, size = [], 0
    async for part in request.stream():
        parts.append(part)
        size += len(part)
        if size > MAX_BODY_BYTES:
            message = f"the body is larger than {MAX_BODY_BYTES:,} bytes; send less of the file"
            raise BadRequestError(message, code="body_too_large", status=413)
    return parse_body(b"".join(parts))


def runtime_of(request: Request) -> Runtime:
    runtime = request.app.state.runtime
    assert isinstance(runtime, Runtime)
    return runtime


def loaded_of(request: Request) -> Loaded:
    runtime = runtime_of(request)
    if runtime.loaded is None:
        raise ServiceError(runtime.error or "the base model is still loading; try again in a moment")
    return runtime.loaded


def model_name(loaded: Loaded) -> str:
    """Holds the family's name: some clients choose their prompt format by it."""
    return "homespun" if loaded.family.startswith("homespun") else f"homespun/{loaded.family}"


async def _completions(news: AsyncGenerator[News]) -> Sequence[Completion]:
    """As many as the client wants, though some may be the same one. Raises what ended any of them."""
    found: dict[int, Completion] = {}
    async with aclosing(news):
        async for choices, part in news:
            if isinstance(part, Exception):
                raise part
            if isinstance(part, Completion):
                found |= dict.fromkeys(choices, part)
    return [found[choice] for choice in sorted(found)]


async def _streamed(request: Request, news: AsyncGenerator[News], call: Call, stamp: Stamp) -> Response:
    """The first part is awaited before the status is sent, so that a full queue is a 429."""
    first = await _unless_gone(request, anext(news))
    if first is None or isinstance(first[1], Exception):
        await news.aclose()
        if first is not None and isinstance(first[1], Exception):
            raise first[1]
        return Response(status_code=_CLIENT_CLOSED)
    return StreamingResponse(_frames(call, first, news, stamp), media_type=call.framing.media_type)


async def _frames(call: Call, first: News, news: AsyncGenerator[News], stamp: Stamp) -> AsyncIterator[str]:
    told, item = Told(call, stamp), first
    async with aclosing(news):
        while True:
            for data in told.frames(*item):
                yield call.framing.frame(data)
            try:
                item = await anext(news)
            except StopAsyncIteration:
                break
    for data in told.last():
        yield call.framing.frame(data)
    if call.framing.last:
        yield call.framing.last


async def _unless_gone(request: Request, work: Awaitable[_Result]) -> _Result | None:
    """The result, or None when the client hung up first: then the work is cancelled. Editors hang up all the time."""
    task = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(_disconnected(request))
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        return await task if task.done() else None
    finally:
        for pending in (task, gone):
            pending.cancel()
        await asyncio.gather(task, gone, return_exceptions=True)


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _new_id() -> str:
    return f"cmpl-{uuid.uuid4().hex}"
