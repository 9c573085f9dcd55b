"""An HTTP server that answers completions with whatever bytes it is told to, and goes on for as long as it likes."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

_MODELS = json.dumps({"data": [{"id": "m", "owned_by": "homespun"}]}).encode()


class Hostile:
    def __init__(self) -> None:
        self.url = ""
        self.heads: list[bytes] = []
        """Of all requests."""
        self.reply = b""
        """What a completion gets, after which the connection is closed."""
        self.endless = b""
        """What it gets after that, again and again, if anything."""
        self.left = asyncio.Event()
        """Set when the client closed a connection while it got the endless part."""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            while head := await reader.readuntil(b"\r\n\r\n"):
                self.heads.append(head)
                length = re.search(rb"content-length: (\d+)", head.lower())
                await reader.readexactly(int(length[1]) if length else 0)
                if head.startswith(b"GET"):
                    writer.write(plain(_MODELS))
                    continue
                writer.write(self.reply)
                await self._go_on(writer)
                break
        writer.close()

    async def _go_on(self, writer: asyncio.StreamWriter) -> None:
        while self.endless:
            writer.write(self.endless)
            try:
                await writer.drain()
            except ConnectionError:
                self.left.set()
                return
            await asyncio.sleep(0.01)


def plain(body: bytes, status: int = 200, headers: str = "") -> bytes:
    return b"HTTP/1.1 %d x\r\n%bcontent-length: %d\r\n\r\n%b" % (status, headers.encode(), len(body), body)


def completed(text: str) -> bytes:
    return plain(json.dumps({"choices": [{"text": text}]}).encode())


@asynccontextmanager
async def hostile() -> AsyncIterator[Hostile]:
    server = Hostile()
    listener = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    server.url = f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
    try:
        yield server
    finally:
        server.endless = b""
        listener.close()
