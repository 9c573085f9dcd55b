"""Connections that don't wait for ever: on a request's first line and headers, on its body, on a body without end.

uvicorn closes a connection that is idle between two requests, but waits without limit for the rest of one that began,
and takes as many as come.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket

import h11
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from homespun_server import open_files
from homespun_server.dialects import BadRequestError
from homespun_server.refused import refused

HEADERS_S = 10.0
BODY_S = 15.0
"""For all of it. An editor sends some 20 kB, and a forge's hook comes from a machine."""
MAX_BODY_BYTES = 5_000_000
"""For anything; a route may take less."""
MAX_DROPPED_BYTES = 50_000_000
"""Read after an answer that came before the body's end, within BODY_S: the kernel resets a connection that is closed
with something unread, and a client that is still sending then never sees the answer."""
_CROWDED = (
    b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nConnection: close\r\nContent-Type: text/plain\r\n"
    b"Content-Length: 42\r\n\r\ntoo many connections are open; try again.\n"
)


class Connection(H11Protocol):
    """Closed without an answer where headers take longer than HEADERS_S: whoever dribbles them doesn't wait for one.
    Refused at once where too many are open.

    What is written goes at once. asyncio sees to that only for listeners made with IPPROTO_TCP, and headers and body
    are written apart: the body would wait until the client acknowledges the headers, up to 40 ms."""

    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's own is
        super().connection_made(transport)
        with contextlib.suppress(OSError):  # the client is gone again
            transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if len(self.connections) > open_files.max_connections():
            open_files.refused()
            transport.write(_CROWDED)
            transport.close()
            return
        self._deadline = self.loop.call_later(HEADERS_S, transport.close)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        is_incomplete = self.conn.their_state is h11.IDLE and bool(self.conn.trailing_data[0])
        if not is_incomplete:
            self._cancel_deadline()
        elif self._deadline is None:
            self._deadline = self.loop.call_later(HEADERS_S, self.transport.close)

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.conn.their_state is h11.SEND_BODY:  # more than is dropped, or dribbled: nothing else would end it
            self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._cancel_deadline()
        super().connection_lost(exc)

    def _cancel_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


class BoundedBodies:
    """Refuses a body that is larger than any route takes, or that doesn't come to its end. What an answer leaves unread
    is dropped, so that the client sees the answer."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        end = asyncio.get_running_loop().time() + BODY_S
        unread = Unread(receive, send, is_whole=not _has_body(scope))
        if _announced_bytes(scope) > MAX_BODY_BYTES:
            error = _too_large(MAX_BODY_BYTES)
            response = refused(scope["path"], error.status, error.message, "invalid_request_error", error.code)
            await response(scope, unread.receive, unread.send)
        else:
            await self._app(scope, within(BODY_S, at_most(MAX_BODY_BYTES, unread.receive)), unread.send)
        if not _waits_for_word(scope):
            await unread.drop(end)
        await unread.finish()


class Unread:
    """Holds an answer's last, empty message back, with which the server may close, while the request isn't whole. The
    answer itself goes at once."""

    def __init__(self, receive: Receive, send: Send, *, is_whole: bool) -> None:
        self._receive, self._send = receive, send
        self._is_whole, self._is_held = is_whole, False

    async def receive(self) -> Message:
        message = await self._receive()
        self._is_whole = message["type"] != "http.request" or not message.get("more_body", False)
        return message

    async def send(self, message: Message) -> None:
        is_last = message["type"] == "http.response.body" and not message.get("more_body", False)
        self._is_held = is_last and not self._is_whole
        await self._send({**message, "more_body": True} if self._is_held else message)

    async def drop(self, end: float) -> None:
        """What is left of the body; no more than fits the bounds."""
        size = 0
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(end):
                while self._is_held and not self._is_whole and size <= MAX_DROPPED_BYTES:
                    size += len((await self.receive()).get("body", b""))

    async def finish(self) -> None:
        if self._is_held:
            await self._send({"type": "http.response.body", "body": b"", "more_body": False})


def at_most(number: int, receive: Receive) -> Receive:
    """Refuses a body of more bytes, as soon as they are there."""
    size = 0

    async def counted() -> Message:
        nonlocal size
        message = await receive()
        size += len(message.get("body", b""))
        if size > number:
            raise _too_large(number)
        return message

    return counted


def within(seconds: float, receive: Receive) -> Receive:
    """Refuses a body that isn't there by then. After it, waiting (for the client to hang up) has no limit."""
    end, is_whole = asyncio.get_running_loop().time() + seconds, False

    async def bounded() -> Message:
        nonlocal is_whole
        if is_whole:
            return await receive()
        try:
            async with asyncio.timeout_at(end):
                message = await receive()
        except TimeoutError:
            raise BadRequestError(
                f"the body didn't come within {seconds:.0f} seconds", code="body_too_slow", status=408
            ) from None
        is_whole = message["type"] != "http.request" or not message.get("more_body", False)
        return message

    return bounded


def _has_body(scope: Scope) -> bool:
    return any(name in (b"content-length", b"transfer-encoding") for name, _ in scope["headers"])


def _waits_for_word(scope: Scope) -> bool:
    """Whether the client sends its body when told to, and so not after a refusal."""
    return any(name == b"expect" and value.lower() == b"100-continue" for name, value in scope["headers"])


def _announced_bytes(scope: Scope) -> int:
    value = dict(scope["headers"]).get(b"content-length", b"0")
    return int(value) if value.isdigit() else 0


def _too_large(most: int) -> BadRequestError:
    message = f"the body is larger than {most:,} bytes; send less"
    return BadRequestError(message, code="body_too_large", status=413)
