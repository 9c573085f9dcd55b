"""An HTTP server that answers completions as a test says, and sees what really goes over the wire."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

HOLD = object()
"""As a reply: no answer until `FakeServer.release` or until the client goes away."""


@dataclass
class Request:
    method: str
    path: str
    headers: dict[str, str]
    body: dict[str, Any]
    closed: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the client closed the connection before it had an answer."""
    reply: asyncio.Future[Any] = field(default_factory=lambda: asyncio.get_running_loop().create_future())

    @property
    def document(self) -> str:
        """Events are about none."""
        return str(self.body.get("homespun", {}).get("path", self.path))

    @property
    def is_open(self) -> bool:
        return not self.reply.done() and not self.closed.is_set()


class FakeServer:
    def __init__(self) -> None:
        self.reset()
        self.overlapped = False
        """Whether a request was still open when the next one for its document came, and stayed so."""
        self.url = ""
        self.num_connections = 0
        self._open: set[asyncio.Task[None]] = set()
        self._arrived = asyncio.Condition()

    def reset(self) -> None:
        self.requests: list[Request] = []
        self.questions: list[Request] = []
        """Whatever is about the server itself: GETs and forms; answered by `pages`."""
        self.pages: dict[str, object] = {"/v1/models": {"data": [{"id": "m", "owned_by": "homespun"}]}}
        """A reply for each path, or a queue of them, whose last stays."""
        self.replies: deque[object] = deque()
        """One for each request to come: text, an HTTP status or HOLD. When they run out: `default`."""
        self.default: object = "completed"
        """May be a function of the request."""
        self.token: str | None = None
        """Whoever sends another one is refused; None lets everybody in."""

    async def arrived(self, count: int) -> Request:
        """The `count`th request (from 1), as soon as it is there."""
        async with self._arrived, asyncio.timeout(20):
            await self._arrived.wait_for(lambda: len(self.requests) >= count)
        return self.requests[count - 1]

    @property
    def prompts(self) -> list[str]:
        return [request.body["prompt"] for request in self.requests]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._open.add(task)
        self.num_connections += 1
        try:
            while request := await _read(reader):
                if self.token is not None and request.headers.get("authorization") != f"Bearer {self.token}":
                    writer.write(_response(401))
                elif request.method == "GET" or request.path.startswith("/oauth/"):
                    self.questions.append(request)
                    writer.write(_response(self._page(request.path)))
                else:
                    await self._answer(request, reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError, _Gone):
            pass
        finally:
            self._open.discard(task)
            writer.close()

    def _page(self, path: str) -> object:
        page = self.pages.get(path, 404)
        if isinstance(page, deque):
            return page.popleft() if len(page) > 1 else page[0]
        return page

    async def stop(self) -> None:
        for task in list(self._open):
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)

    async def _answer(self, request: Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        earlier = [r for r in self.requests if r.document == request.document and r.is_open]
        self.requests.append(request)
        async with self._arrived:
            self._arrived.notify_all()
        reply = self.replies.popleft() if self.replies else self.default
        reply = reply(request) if callable(reply) else reply
        if reply is not HOLD:
            request.reply.set_result(reply)
        await self._see_closed(earlier)
        writer.write(_response(await _reply_or_gone(request, reader)))
        await writer.drain()

    async def _see_closed(self, earlier: list[Request]) -> None:
        """The close of one connection and a request on another may be noticed in either order: both are given time."""
        for request in earlier:
            try:
                await asyncio.wait_for(request.closed.wait(), 5)
            except TimeoutError:
                self.overlapped = True


class _Gone(Exception):
    """The client closed the connection."""


async def _reply_or_gone(request: Request, reader: asyncio.StreamReader) -> object:
    gone: asyncio.Future[bytes] = asyncio.ensure_future(reader.read(1))
    first: set[asyncio.Future[Any]] = {gone, request.reply}
    await asyncio.wait(first, return_when=asyncio.FIRST_COMPLETED)
    if request.reply.done():
        gone.cancel()
        await asyncio.wait({gone})
        return request.reply.result()
    request.closed.set()
    raise _Gone


async def _read(reader: asyncio.StreamReader) -> Request | None:
    head = await reader.readuntil(b"\r\n\r\n") if not reader.at_eof() else b""
    if not head:
        return None
    first, *lines = head.decode().strip().split("\r\n")
    headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
    body = await reader.readexactly(int(headers.get("content-length", 0)))
    method, path, _ = first.split()
    is_form = headers.get("content-type", "").startswith("application/x-www-form-urlencoded")
    parsed = dict(parse_qsl(body.decode())) if is_form else json.loads(body or b"{}")
    return Request(method=method, path=path, headers=headers, body=parsed)


def _response(reply: object) -> bytes:
    status, body = reply if isinstance(reply, tuple) else (reply, {}) if isinstance(reply, int) else (200, reply)
    if isinstance(body, str):
        body = {"choices": [{"index": 0, "text": body, "finish_reason": "stop"}]}
    content = json.dumps(body).encode()
    return b"HTTP/1.1 %d x\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (
        status,
        len(content),
        content,
    )


@asynccontextmanager
async def fake_server(tls: ssl.SSLContext | None = None, port: int = 0) -> AsyncIterator[FakeServer]:
    fake = FakeServer()
    listener = await asyncio.start_server(fake.serve, "127.0.0.1", port, ssl=tls)
    fake.url = f"http{'s' if tls else ''}://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
    try:
        yield fake
    finally:
        listener.close()
        await fake.stop()
