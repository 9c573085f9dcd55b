"""The routes that events come in by: Tabby's, and our own, which takes many at once."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

from fastapi import APIRouter, Request
from fastapi.responses import Response

from homespun_server import dialects
from homespun_server.access.http import demand
from homespun_server.dialects import BadRequestError
from homespun_server.feedback import wire
from homespun_server.feedback.facts import Event
from homespun_server.routes.described import taking
from homespun_server.runtime import Runtime

_MAX_BODY_BYTES = 200_000

router = APIRouter()


@router.post("/v1/events", **taking("What became of a completion, as Tabby has it", wire.TABBY_EVENT_BODY))
async def tabby_event(request: Request, select_kind: str | None = None) -> Response:
    body = dialects.parse_body(await _body(request))
    return _taken(request, [wire.tabby_event(body, select_kind, time.time())])


@router.post("/v1/homespun/events", **taking("What became of completions", wire.EVENTS_BODY))
async def events(request: Request) -> Response:
    return _taken(request, wire.events_of(dialects.parse_body(await _body(request)), time.time()))


def _taken(request: Request, events: Sequence[Event]) -> Response:
    runtime = request.app.state.runtime
    assert isinstance(runtime, Runtime)
    user = demand(request, "complete").user
    for event in events:
        runtime.metrics.events.labels(event.kind).inc()
        if runtime.recorder is not None:
            runtime.recorder.record(replace(event, user=user))
    return Response(status_code=200)


async def _body(request: Request) -> bytes:
    parts, size = [], 0
    async for part in request.stream():
        parts.append(part)
        size += len(part)
        if size > _MAX_BODY_BYTES:
            message = f"the body is larger than {_MAX_BODY_BYTES:,} bytes; send fewer events at once"
            raise BadRequestError(message, code="body_too_large", status=413)
    return b"".join(parts)
