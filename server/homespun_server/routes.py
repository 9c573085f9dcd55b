"""The routes: what they accept is `dialects`, what they do is `services`."""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Mapping
from contextlib import aclosing
from typing import Any, TypeVar

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse

from homespun_core.errors import ServiceError
from homespun_core.types import Completion
from homespun_server import dialects, metrics
from homespun_server.access.http import bound, demand, principal_of
from homespun_server.dialects import BadRequestError, OpenAICall, TabbyCall
from homespun_server.runtime import Loaded, Runtime

MAX_BODY_BYTES = 2_000_000
_CLIENT_CLOSED = 499

router = APIRouter()
_Result = TypeVar("_Result")


@router.get("/healthz")
async def healthz() -> dict[str, bool]:
    return {"alive": True}


@router.get("/readyz")
async def readyz(request: Request) -> Response:
    runtime = _runtime(request)
    return JSONResponse(runtime.state(principal_of(request)), status_code=200 if runtime.loaded else 503)


@router.get("/metrics")
async def metrics_page(request: Request) -> Response:
    demand(request, "read-metrics")
    return Response(_runtime(request).metrics.exposition(), media_type=metrics.CONTENT_TYPE)


@router.get("/v1/models")
async def models(request: Request) -> dict[str, Any]:
    return {
        "object": "list",
        "data": [{"id": _model_name(_loaded(request)), "object": "model", "created": 0, "owned_by": "homespun"}],
    }


@router.post("/v1/completions")
async def completions(request: Request) -> Response:
    """OpenAI's and Tabby's shape; see `dialects`."""
    loaded = _loaded(request)
    body = dialects.parse_body(await _body(request))
    settings = _runtime(request).settings
    if dialects.is_tabby(body):
        return await _tabby(request, loaded, dialects.tabby_call(body, settings))
    call = dialects.openai_call(body, settings)
    return await (_openai_stream if call.stream else _openai)(request, loaded, call)


async def _tabby(request: Request, loaded: Loaded, call: TabbyCall) -> Response:
    request_id = _new_id()
    completion = await _unless_gone(request, loaded.completer.complete(bound(request, call.request), request_id))
    if completion is None:
        return Response(status_code=_CLIENT_CLOSED)
    return JSONResponse(dialects.tabby_reply(call, completion, request_id=request_id))


async def _openai(request: Request, loaded: Loaded, call: OpenAICall) -> Response:
    request_id, created = _new_id(), int(time.time())
    completion = await _unless_gone(request, loaded.completer.complete(bound(request, call.request), request_id))
    if completion is None:
        return Response(status_code=_CLIENT_CLOSED)
    model = call.model or _model_name(loaded)
    return JSONResponse(dialects.openai_reply(call, completion, request_id=request_id, created=created, model=model))


async def _openai_stream(request: Request, loaded: Loaded, call: OpenAICall) -> Response:
    """Server-sent events. The first part is awaited before the status is sent, so that a full queue is a 429."""
    request_id = _new_id()
    parts = loaded.completer.stream(bound(request, call.request), request_id)
    first = await _unless_gone(request, anext(parts))
    if first is None:
        await parts.aclose()
        return Response(status_code=_CLIENT_CLOSED)
    names = {"request_id": request_id, "created": int(time.time()), "model": call.model or _model_name(loaded)}
    return StreamingResponse(_events(call, first, parts, names), media_type="text/event-stream")


async def _events(
    call: OpenAICall, first: str | Completion, parts: AsyncGenerator[str | Completion], names: Mapping[str, Any]
) -> AsyncIterator[str]:
    async with aclosing(parts):
        if call.echo:
            yield _event(dialects.openai_chunk(call.prompt, None, **names))
        part: str | Completion | None = first
        while part is not None:
            if isinstance(part, Completion):
                yield _event(dialects.openai_chunk("", part.finish_reason, **names) | dialects.note(part))
                if call.include_usage:
                    yield _event(dialects.openai_usage_chunk(part, **names))
            else:
                yield _event(dialects.openai_chunk(part, None, **names))
            part = await anext(parts, None)
    yield "data: [DONE]\n\n"


def _event(data: Mapping[str, Any]) -> str:
    return f"data: {json.dumps(data, ensure_ascii=False)}\n\n"


async def _body(request: Request) -> bytes:
    """The whole body, read no further than the limit."""
    parts, size = [], 0
    async for part in request.stream():
        parts.append(part)
        size += len(part)
        if size > MAX_BODY_BYTES:
            message = f"the body is larger than {MAX_BODY_BYTES:,} bytes; send less of the file"
            raise BadRequestError(message, code="body_too_large", status=413)
    return b"".join(parts)


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


def _runtime(request: Request) -> Runtime:
    runtime = request.app.state.runtime
    assert isinstance(runtime, Runtime)
    return runtime


def _loaded(request: Request) -> Loaded:
    runtime = _runtime(request)
    if runtime.loaded is None:
        raise ServiceError(runtime.error or "the base model is still loading; try again in a moment")
    return runtime.loaded


def _model_name(loaded: Loaded) -> str:
    """Holds the family's name: some clients choose their prompt format by it."""
    return "homespun" if loaded.family.startswith("homespun") else f"homespun/{loaded.family}"


def _new_id() -> str:
    return f"cmpl-{uuid.uuid4().hex}"
