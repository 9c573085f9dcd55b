"""The real `homespun lsp` between a test and an editor that can't start it itself; keeps what is said."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from tests.e2e.command import HOMESPUN


class LanguageServer:
    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.listener: Callable[[str], Awaitable[object]] | None = None
        self.sent: list[dict[str, Any]] = []
        """By the editor."""
        self.said: list[dict[str, Any]] = []
        """By the server."""

    def requests(self, method: str) -> list[dict[str, Any]]:
        return [message for message in self.sent if message.get("method") == method]

    def send_text(self, text: str) -> None:
        self.sent.append(json.loads(text))
        content = text.encode("utf-8", "surrogatepass")
        assert self._process.stdin is not None
        self._process.stdin.write(b"Content-Length: %d\r\n\r\n%b" % (len(content), content))

    async def listen(self) -> None:
        assert self._process.stdout is not None
        while head := await _head(self._process.stdout):
            text = (await self._process.stdout.readexactly(_length(head))).decode()
            self.said.append(json.loads(text))
            if self.listener is not None:
                await self.listener(text)


async def _head(stream: asyncio.StreamReader) -> bytes:
    try:
        return await stream.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return b""


def _length(head: bytes) -> int:
    return next(int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length"))


@asynccontextmanager
async def language_server() -> AsyncIterator[LanguageServer]:
    process = await asyncio.create_subprocess_exec(
        *HOMESPUN, "lsp", stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, env=os.environ
    )
    server = LanguageServer(process)
    listening = asyncio.create_task(server.listen())
    try:
        yield server
    finally:
        assert process.stdin is not None
        process.stdin.close()
        await asyncio.wait_for(process.wait(), 20)
        await listening
