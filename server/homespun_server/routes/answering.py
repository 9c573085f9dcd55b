"""From a call of any dialect to its HTTP response."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Iterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import Any, TypeVar

from fastapi import Request
from fastapi.responses import JSONResponse, Response, StreamingResponse

from homespun_core.errors import ServiceError
from homespun_core.types import Completion
from homespun_server.access.http import bound
from homespun_server.dialects import BadRequestError, parse_body
from homespun_server.dialects.calls import Call, Stamp, samples
from homespun_server.runtime import Loaded, Runtime
from homespun_server.services import Completer

MAX_BODY_BYTES = 2_000_000
_CLIENT_CLOSED = 499
_Result = TypeVar("_Result")


async def answer(request: Request, call: Call) -> Response:
    """Every completion passes here, and is limited to what its user may read."""
    loaded = loaded_of(request)
    call = replace(call, request=bound(request, call.request))
    stamp = Stamp(id=_new_id(), created=time.time(), model=call.model or model_name(loaded))
    if call.is_stream and not call.is_held:
        return await _streamed(request, loaded.completer, call, stamp)
    completions = await _unless_gone(request, _completions(loaded.completer, call, stamp.id))
    if completions is None:
        return Response(status_code=_CLIENT_CLOSED)
    if call.is_stream:
        return StreamingResponse(_framed(call, call.frames(completions, stamp)), media_type=call.framing.media_type)
    return JSONResponse(call.reply(completions, stamp))


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


async def _completions(completer: Completer, call: Call, request_id: str) -> Sequence[Completion]:
    """As many as the client wants, though they may be the same one."""
    first, *others = samples(call)
    if not others:
        return [await completer.complete(first, request_id)] * call.num_choices
    tasks = [
        asyncio.ensure_future(completer.complete(wanted, f"{request_id}-{number}" if number else request_id))
        for number, wanted in enumerate([first, *others])
    ]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()


async def _streamed(request: Request, completer: Completer, call: Call, stamp: Stamp) -> Response:
    """The first part is awaited before the status is sent, so that a full queue is a 429."""
    parts = completer.stream(call.request, stamp.id)
    first = await _unless_gone(request, anext(parts))
    if first is None:
        await parts.aclose()
        return Response(status_code=_CLIENT_CLOSED)
    return StreamingResponse(_frames(call, first, parts, stamp), media_type=call.framing.media_type)


async def _frames(
    call: Call, first: str | Completion, parts: AsyncGenerator[str | Completion], stamp: Stamp
) -> AsyncIterator[str]:
    frame = call.framing.frame
    async with aclosing(parts):
        for data in call.begin(stamp):
            yield frame(data)
        part: str | Completion | None = first
        while part is not None:
            for data in _said(call, part, stamp):
                yield frame(data)
            part = await anext(parts, None)
    if call.framing.last:
        yield call.framing.last


def _said(call: Call, part: str | Completion, stamp: Stamp) -> Iterator[object]:
    if isinstance(part, Completion):
        yield from call.end(part, stamp)
        yield from call.last([part], stamp)
    else:
        yield from call.part(part, stamp)


def _framed(call: Call, frames: Iterator[object]) -> Iterator[str]:
    for data in frames:
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
