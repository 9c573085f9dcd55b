"""A language server at the end of two pipes: whatever bytes are to go in, what came out, how it ended."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tests.lsp.editor import COMMAND


class Raw:
    def __init__(self, process: asyncio.subprocess.Process, stderr: Path) -> None:
        assert process.stdin and process.stdout
        self.process, self.stdin, self._stdout = process, process.stdin, process.stdout
        self._stderr = stderr
        self._number = 0

    def send(self, method: str, params: object = None, **more: object) -> None:
        self.send_body(json.dumps({"jsonrpc": "2.0", "method": method, "params": params, **more}).encode())

    def send_body(self, body: bytes) -> None:
        self.stdin.write(b"Content-Length: %d\r\n\r\n%b" % (len(body), body))

    async def request(self, method: str, params: object = None) -> Any:
        self._number += 1
        self.send(method, params, id=self._number)
        return await self.answer_to(self._number)

    async def answer_to(self, number: int) -> Any:
        async with asyncio.timeout(60):
            while True:
                message = await self._message()
                if message.get("id") == number and "method" not in message:
                    return message.get("result", message.get("error"))

    async def start(self, **options: object) -> None:
        params: dict[str, object] = {"processId": os.getpid(), "rootUri": None, "capabilities": {}}
        await self.request("initialize", {**params, "initializationOptions": {"prefetch": False, **options}})
        self.send("initialized", {})

    def open(self, uri: str, text: str) -> None:
        item = {"uri": uri, "languageId": "python", "version": 1, "text": text}
        self.send("textDocument/didOpen", {"textDocument": item})

    def close(self, uri: str) -> None:
        self.send("textDocument/didClose", {"textDocument": {"uri": uri}})

    async def ghost(self, uri: str, line: int, character: int) -> str:
        """By hand; empty where there is none."""
        where = {"textDocument": {"uri": uri}, "position": {"line": line, "character": character}}
        answer = await self.request("textDocument/inlineCompletion", {**where, "context": {"triggerKind": 1}})
        return str(answer["items"][0]["insertText"]) if answer and answer["items"] else ""

    async def ended(self) -> int:
        return await asyncio.wait_for(self.process.wait(), 20)

    @property
    def stderr(self) -> str:
        return self._stderr.read_text(errors="replace")

    @property
    def resident_mb(self) -> float:
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 1e6

    async def _message(self) -> Mapping[str, Any]:
        head = await self._stdout.readuntil(b"\r\n\r\n")
        length = next(int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.startswith(b"Content-Length"))
        message: Mapping[str, Any] = json.loads(await self._stdout.readexactly(length))
        return message


@asynccontextmanager
async def raw(**environ: str) -> AsyncIterator[Raw]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("HOMESPUN_")}
    with TemporaryDirectory() as folder:
        stderr = Path(folder, "stderr")
        log = os.open(stderr, os.O_WRONLY | os.O_CREAT)
        process = await asyncio.create_subprocess_exec(
            *COMMAND,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=log,
            env={**clean, "XDG_STATE_HOME": folder, **environ},
            limit=2**24,
        )
        os.close(log)
        try:
            yield Raw(process, stderr)
        finally:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()
