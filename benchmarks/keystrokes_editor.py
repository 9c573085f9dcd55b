"""The editor and the relay of benchmarks/keystrokes.py: LSP over stdio, HTTP passed on with the time it takes."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_LANGUAGES = {".py": "python", ".go": "go", ".ts": "typescript", ".js": "javascript", ".rs": "rust", ".java": "java"}


@dataclass(slots=True)
class Buffer:
    uri: str
    before: str
    """Up to the cursor."""
    after: str
    version: int = 1

    @property
    def position(self) -> dict[str, int]:
        line = self.before[self.before.rfind("\n") + 1 :]
        return {"line": self.before.count("\n"), "character": len(line.encode("utf-16-le")) // 2}


@dataclass(frozen=True, slots=True)
class Found:
    text: str
    keeps: bool
    """Whether nothing means that what is shown stays."""


class Editor:
    """One language server; announces what VS Code does, with our extension."""

    def __init__(
        self, command: Sequence[str], options: Mapping[str, Any], environ: Mapping[str, str], folder: Path, method: str
    ) -> None:
        """`method` is what is asked for: inlineCompletion, or completion."""
        self._command, self._options, self._environ, self._folder = command, options, environ, folder
        self._method = method
        self._answers: dict[int, asyncio.Future[Any]] = {}
        self._number = 0

    async def __aenter__(self) -> Editor:
        pipe = asyncio.subprocess.PIPE
        self._process = await asyncio.create_subprocess_exec(
            *self._command, stdin=pipe, stdout=pipe, stderr=asyncio.subprocess.DEVNULL, env=dict(self._environ)
        )
        self._reading = asyncio.create_task(self._read())
        capabilities = {
            "general": {"positionEncodings": ["utf-16"]},
            "textDocument": {self._method: {"dynamicRegistration": True}},
            "workspace": {"configuration": True, "workspaceFolders": True},
        }
        folder = {"uri": self._folder.as_uri(), "name": self._folder.name}
        params = {"processId": os.getpid(), "rootUri": folder["uri"], "workspaceFolders": [folder]}
        info = {"name": "benchmark", "version": "1"}
        await self._request(
            "initialize",
            {**params, "clientInfo": info, "capabilities": capabilities, "initializationOptions": self._options},
        )
        self._notify("initialized", {})
        await asyncio.sleep(3.0)  # until it has made its first contact
        return self

    async def __aexit__(self, *_: object) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(self._request("shutdown", None), 5)
        self._notify("exit", None)
        with suppress(TimeoutError):
            await asyncio.wait_for(self._process.wait(), 5)
        if self._process.returncode is None:
            self._process.kill()
            await self._process.wait()
        self._reading.cancel()

    @property
    def cpu_s(self) -> float:
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    @property
    def peak_mb(self) -> float:
        lines = Path(f"/proc/{self._process.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024

    def open(self, path: Path, before: str, after: str) -> Buffer:
        buffer = Buffer(path.as_uri(), before, after)
        language = _LANGUAGES.get(path.suffix, "plaintext")
        item = {"uri": buffer.uri, "languageId": language, "version": 1, "text": before + after}
        self._notify("textDocument/didOpen", {"textDocument": item})
        self._notify("textDocument/didFocus", {"textDocument": {"uri": buffer.uri}, "position": buffer.position})
        return buffer

    def close(self, buffer: Buffer) -> None:
        self._notify("textDocument/didClose", {"textDocument": {"uri": buffer.uri}})

    def type(self, buffer: Buffer, text: str) -> None:
        where = {"start": buffer.position, "end": buffer.position}
        buffer.before += text
        self._changed(buffer, where, text)

    def take_back(self, buffer: Buffer, count: int) -> None:
        """The last characters that were written, in one change."""
        end = buffer.position
        buffer.before = buffer.before[:-count]
        self._changed(buffer, {"start": buffer.position, "end": end}, "")

    async def suggestion(self, buffer: Buffer) -> Found:
        """Cancelled in the language server when it is cancelled here."""
        params = {
            "textDocument": {"uri": buffer.uri},
            "position": buffer.position,
            "context": {"triggerKind": 2},
        }
        at = buffer.position["character"]
        result = await self._request(f"textDocument/{self._method}", params)
        items = result["items"] if isinstance(result, dict) else result
        if not items:
            return Found("", keeps=items is None)
        edit = items[0].get("textEdit", {})
        text, where = edit.get("newText") or items[0]["insertText"], edit.get("range") or items[0].get("range")
        typed = at - where["start"]["character"] if where else 0
        return Found(text[typed:], keeps=False)

    def _changed(self, buffer: Buffer, where: Mapping[str, Any], text: str) -> None:
        buffer.version += 1
        about = {"uri": buffer.uri, "version": buffer.version}
        changes = [{"range": where, "text": text}]
        self._notify("textDocument/didChange", {"textDocument": about, "contentChanges": changes})

    async def _request(self, method: str, params: Any) -> Any:
        self._number += 1
        number = self._number
        self._answers[number] = asyncio.get_running_loop().create_future()
        self._send({"id": number, "method": method, "params": params})
        try:
            return await self._answers[number]
        except asyncio.CancelledError:
            self._notify("$/cancelRequest", {"id": number})
            raise
        finally:
            del self._answers[number]

    def _notify(self, method: str, params: Any) -> None:
        self._send({"method": method, "params": params})

    def _send(self, message: Mapping[str, Any]) -> None:
        content = json.dumps({"jsonrpc": "2.0", **message}).encode()
        assert self._process.stdin is not None
        self._process.stdin.write(b"Content-Length: %d\r\n\r\n%b" % (len(content), content))

    async def _read(self) -> None:
        assert self._process.stdout is not None
        while True:
            size = 0
            while line := (await self._process.stdout.readline()).strip():
                if line.lower().startswith(b"content-length:"):
                    size = int(line.partition(b":")[2])
            if not size:
                return
            self._received(json.loads(await self._process.stdout.readexactly(size)))

    def _received(self, message: Mapping[str, Any]) -> None:
        if "method" in message and "id" in message:
            items = message.get("params", {}) or {}
            wanted = items.get("items", []) if isinstance(items, dict) else []
            result = [None] * len(wanted) if message["method"] == "workspace/configuration" else None
            self._send({"id": message["id"], "result": result})
        elif "id" in message and (answer := self._answers.get(message["id"])) and not answer.done():
            answer.set_result(message.get("result"))


@dataclass(frozen=True, slots=True)
class Served:
    arrived_at: float
    answered_at: float


@dataclass(slots=True)
class Relay:
    """Between a language server and a Homespun server; counts completions."""

    server: str
    num_requests: int = 0
    num_ahead: int = 0
    num_prepared: int = 0
    num_connections: int = 0
    last: Served | None = None
    url: str = ""
    _open: set[asyncio.Task[None]] = field(default_factory=set)
    _listener: asyncio.Server | None = None

    async def __aenter__(self) -> Relay:
        self._listener = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._listener.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._listener is not None
        self._listener.close()
        for task in list(self._open):
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._open.add(task)
        self.num_connections += 1
        host, _, port = self.server.partition(":")
        up_reader, up_writer = await asyncio.open_connection(host, int(port))
        try:
            while message := await _message(reader):
                await self._pass_on(message, reader, up_reader, up_writer, writer)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            self._open.discard(task)
            up_writer.close()
            writer.close()

    async def _pass_on(
        self,
        message: bytes,
        reader: asyncio.StreamReader,
        up_reader: asyncio.StreamReader,
        up_writer: asyncio.StreamWriter,
        writer: asyncio.StreamWriter,
    ) -> None:
        arrived, is_completion = time.perf_counter(), message.startswith(b"POST /v1/completions")
        self.num_requests += is_completion
        self.num_ahead += is_completion and b'"trigger":"ahead"' in message
        self.num_prepared += is_completion and b'"max_tokens":0' in message
        up_writer.write(message)
        gone = asyncio.ensure_future(reader.read(1))
        answer = asyncio.ensure_future(_message(up_reader))
        await asyncio.wait({gone, answer}, return_when=asyncio.FIRST_COMPLETED)
        if not answer.done():  # the client went away: so does our connection to the server
            answer.cancel()
            raise ConnectionResetError
        gone.cancel()
        await asyncio.wait({gone})
        if is_completion:
            self.last = Served(arrived, time.perf_counter())
        writer.write(answer.result())
        await writer.drain()


async def _message(reader: asyncio.StreamReader) -> bytes:
    """Head and body, as they came; empty at the end of the connection."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return b""
    sizes = [line.partition(b":")[2] for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
    if b"transfer-encoding: chunked" in head.lower():
        return head + await _chunks(reader)
    return head + await reader.readexactly(int(sizes[0]) if sizes else 0)


async def _chunks(reader: asyncio.StreamReader) -> bytes:
    body = b""
    while True:
        line = await reader.readuntil(b"\r\n")
        part = await reader.readexactly(int(line.strip(), 16) + 2)
        body += line + part
        if part == b"\r\n":
            return body
