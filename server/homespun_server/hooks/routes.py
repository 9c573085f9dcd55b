"""POST /hooks: what forges are told to call when somebody pushes. One address for all of them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response

from homespun_server.dialects import error_body
from homespun_server.dialects.schemas import TEXT, reply
from homespun_server.hooks.forges import Hook
from homespun_server.hooks.receiver import ACCEPTED, Answer, Place, Receiver

PATH = "/hooks"
MAX_BODY_BYTES = 5_000_000
"""GitHub sends up to 25 MB, for pushes of thousands of commits. Those are found at the next fetch."""

router = APIRouter()


_DESCRIBED: Mapping[str, Any] = {
    "summary": "A push, as a forge tells of it",
    "status_code": ACCEPTED,
    "openapi_extra": {
        "requestBody": {"required": True, "content": {"application/json": {"schema": {"type": "object"}}}},
        "responses": {str(ACCEPTED): {"content": {"application/json": {"schema": reply(outcome=TEXT)}}}},
    },
}


@router.post(PATH, **_DESCRIBED)
@router.post(PATH + "/{forge}", **_DESCRIBED)
async def receive(request: Request) -> Response:
    """The forge is recognised by its headers; a name in the path is for people's logs."""
    receiver = request.app.state.hooks
    assert isinstance(receiver, Receiver)
    with receiver.room.place() as place:
        body = (
            await _body(request, place) if receiver.is_on else b""
        )  # where no signature can be right, nothing is read
        if isinstance(body, Answer):
            answer = body
        else:
            answer = await asyncio.to_thread(receiver.receive, _hook(request, body), time.time())
    request.app.state.runtime.metrics.hooks.labels(answer.outcome).inc()
    return _reply(answer)


def _hook(request: Request, body: bytes) -> Hook:
    """Of a header that is there twice the last counts, for the signature and everything else."""
    return Hook(headers={name.lower(): value for name, value in request.headers.items()}, body=body)


def _reply(answer: Answer) -> Response:
    if answer.status == ACCEPTED:
        return JSONResponse({"outcome": answer.outcome}, status_code=answer.status)
    return _refusal(answer.status, answer.message)


def _refusal(status: int, message: str) -> Response:
    kind = "authentication_error" if status in (401, 403) else "invalid_request_error"
    return JSONResponse(error_body(message, type=kind, code="bad_hook", param=None), status_code=status)


async def _body(request: Request, place: Place) -> bytes | Answer:
    """Not read to its end when it is too large, or there is no room for more."""
    parts = []
    async for part in request.stream():
        if place.size + len(part) > MAX_BODY_BYTES:
            message = f"a hook larger than {MAX_BODY_BYTES:,} bytes; the next fetch finds what was pushed"
            return Answer(status=413, outcome="too_large", message=message)
        if not place.takes(len(part)):
            message = "too many large hooks at once; try again, or the next fetch finds what was pushed"
            return Answer(status=503, outcome="busy", message=message)
        parts.append(part)
    return b"".join(parts)
