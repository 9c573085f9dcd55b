"""Tabby's own agent, which its plugins for VS Code, IntelliJ and Vim run: as a language server, and by lines of JSON,
which is the only way this version tells what became of a completion."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from lsprotocol import types
from pygls.lsp.client import LanguageClient

from tests.e2e.clients import node

PROJECT = Path(__file__).parent / "dialects"
_CONFIG = """[server]
endpoint = "{url}"
token = "unused"
[anonymousUsageTracking]
disable = true
"""


class TabbyLines:
    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process, self._number = process, 0

    async def call(self, function: str, *arguments: object) -> Any:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._number += 1
        line = json.dumps([self._number, {"func": function, "args": arguments}])
        self._process.stdin.write(f"{line}\n".encode())
        async with asyncio.timeout(30):
            while True:  # what it says of itself has number 0
                number, said = json.loads(await self._process.stdout.readline())
                if number == self._number:
                    return said


@asynccontextmanager
async def tabby_lines(url: str, home: Path) -> AsyncIterator[TabbyLines]:
    """`home` is where it keeps its settings."""
    pipe = asyncio.subprocess.PIPE
    environ = os.environ | {"HOME": str(home)}
    process = await asyncio.create_subprocess_exec(*_command(), stdin=pipe, stdout=pipe, env=environ)
    try:
        agent = TabbyLines(process)
        server = {"endpoint": url, "token": "unused"}
        await agent.call("initialize", {"config": {"server": server, "anonymousUsageTracking": {"disable": True}}})
        yield agent
    finally:
        process.kill()  # it doesn't end by itself when its input does
        await process.communicate()


class TabbyAgent:
    def __init__(self, client: LanguageClient) -> None:
        self._client = client

    async def complete(self, file: Path, text: str) -> list[types.CompletionItem]:
        """Asked for by a key, at the end of the text."""
        lines = text.split("\n")
        document = types.TextDocumentItem(file.as_uri(), "python", 1, text)
        self._client.text_document_did_open(types.DidOpenTextDocumentParams(document))
        found = await self._client.text_document_completion_async(
            types.CompletionParams(
                types.TextDocumentIdentifier(document.uri),
                types.Position(len(lines) - 1, len(lines[-1])),
                context=types.CompletionContext(types.CompletionTriggerKind.Invoked),
            )
        )
        return list(found.items) if isinstance(found, types.CompletionList) else list(found or [])


@asynccontextmanager
async def tabby_agent(url: str, home: Path) -> AsyncIterator[TabbyAgent]:
    """`home` is where it looks for its settings, and keeps its own."""
    folder = home / ".tabby-client" / "agent"
    folder.mkdir(parents=True)
    (folder / "config.toml").write_text(_CONFIG.format(url=url))
    client = LanguageClient("editor", "1")
    await client.start_io(*_command(), "--lsp", "--stdio", env=os.environ | {"HOME": str(home)})
    try:
        capabilities = types.ClientCapabilities(
            text_document=types.TextDocumentClientCapabilities(completion=types.CompletionClientCapabilities())
        )
        await client.initialize_async(types.InitializeParams(capabilities, process_id=os.getpid()))
        client.initialized(types.InitializedParams())
        yield TabbyAgent(client)
        await client.shutdown_async(None)
    finally:
        client.exit(None)
        await client.stop()  # type: ignore[no-untyped-call]


def _command() -> list[str]:
    return [str(node.NODE), str(node.installed(PROJECT) / "node_modules/tabby-agent/dist/cli.js")]
