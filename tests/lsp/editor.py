"""An editor as a test sees it: types, asks, keeps what it is told. Talks to a real process over real stdio."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from lsprotocol import types
from pytest_lsp.client import LanguageClient, make_test_lsp_client

COMMAND = (sys.executable, "-m", "homespun_core.cli", "lsp", "--stdio")
MENU = types.ClientCapabilities(
    text_document=types.TextDocumentClientCapabilities(
        completion=types.CompletionClientCapabilities(
            completion_item=types.ClientCompletionItemOptions(documentation_format=[types.MarkupKind.Markdown])
        )
    )
)
GHOST = types.ClientCapabilities(
    text_document=types.TextDocumentClientCapabilities(inline_completion=types.InlineCompletionClientCapabilities())
)
_STATE = TemporaryDirectory(prefix="homespun-state-")
"""Of the user whose editors these are."""
Automatic, Invoked = types.InlineCompletionTriggerKind.Automatic, types.InlineCompletionTriggerKind.Invoked


class Buffer:
    """A document open in the editor. Positions are counted here by encoding, independently of the code under test."""

    def __init__(self, client: LanguageClient, uri: str, marked: str, language: str = "python") -> None:
        """`marked` holds the cursor as `|`."""
        self.client = client
        self.uri = uri
        self.version = 1
        self.encoding = "utf-16"
        before, _, after = marked.partition("|")
        self.text, self.cursor = before + after, len(before)
        item = types.TextDocumentItem(uri=uri, language_id=language, version=1, text=self.text)
        client.text_document_did_open(types.DidOpenTextDocumentParams(text_document=item))

    @property
    def position(self) -> types.Position:
        lines = self.text[: self.cursor].replace("\r\n", "\n").split("\n")
        codec, unit = {"utf-8": ("utf-8", 1), "utf-16": ("utf-16-le", 2), "utf-32": ("utf-32-le", 4)}[self.encoding]
        return types.Position(line=len(lines) - 1, character=len(lines[-1].encode(codec, "surrogatepass")) // unit)

    def type(self, text: str) -> None:
        """One change, whatever its length."""
        self.replace(types.Range(start=self.position, end=self.position), text)

    def type_at_line_ends(self, text: str, lines: Sequence[int]) -> None:
        """At several cursors: one notification with a change for each line, last line first. Ours is in one of them."""
        self.version += 1
        ends = [types.Position(line=line, character=len(self.text.split("\n")[line])) for line in lines]
        changes = [types.TextDocumentContentChangePartial(range=types.Range(end, end), text=text) for end in ends]
        self.client.text_document_did_change(
            types.DidChangeTextDocumentParams(
                text_document=types.VersionedTextDocumentIdentifier(uri=self.uri, version=self.version),
                content_changes=list(changes),
            )
        )
        at = self.position.line
        self.text = "\n".join(line + text * (n in lines) for n, line in enumerate(self.text.split("\n")))
        self.cursor = len("\n".join(self.text.split("\n")[: at + 1]))

    def insert(self, item: types.InlineCompletionItem, count: int | None = None) -> None:
        """Accepts an item, or its first `count` characters, as an editor does."""
        assert isinstance(item.insert_text, str) and item.range and item.range.start == self.position
        self.replace(item.range, item.insert_text[:count])

    def delete(self, count: int) -> None:
        """Backspaces."""
        end = self.position
        self.cursor -= count
        self.replace(types.Range(start=self.position, end=end), "")

    def replace(self, where: types.Range, text: str) -> None:
        """From the cursor on, within its line; the cursor ends up behind the text."""
        removed = where.end.character - where.start.character
        self.version += 1
        self.client.text_document_did_change(
            types.DidChangeTextDocumentParams(
                text_document=types.VersionedTextDocumentIdentifier(uri=self.uri, version=self.version),
                content_changes=[types.TextDocumentContentChangePartial(range=where, text=text)],
            )
        )
        self.text = self.text[: self.cursor] + text + self.text[self.cursor + removed :]
        self.cursor += len(text)

    def save(self) -> None:
        document = types.TextDocumentIdentifier(uri=self.uri)
        self.client.text_document_did_save(types.DidSaveTextDocumentParams(text_document=document))

    def close(self) -> None:
        document = types.TextDocumentIdentifier(uri=self.uri)
        self.client.text_document_did_close(types.DidCloseTextDocumentParams(text_document=document))

    def ask(
        self,
        trigger: types.InlineCompletionTriggerKind = Automatic,
        chosen: types.SelectedCompletionInfo | None = None,
    ) -> asyncio.Task[types.InlineCompletionList | None]:
        """Send the request now; what comes back is to be awaited."""
        params = types.InlineCompletionParams(
            text_document=types.TextDocumentIdentifier(uri=self.uri),
            position=self.position,
            context=types.InlineCompletionContext(trigger_kind=trigger, selected_completion_info=chosen),
        )
        future: asyncio.Future[Any] = asyncio.wrap_future(self.client.text_document_inline_completion(params))
        return asyncio.ensure_future(_listed(future))

    async def ghost(
        self,
        trigger: types.InlineCompletionTriggerKind = Automatic,
        chosen: types.SelectedCompletionInfo | None = None,
    ) -> types.InlineCompletionItem | None:
        result = await self.ask(trigger, chosen)
        return result.items[0] if result and result.items else None

    async def menu(self) -> types.CompletionList:
        document = types.TextDocumentIdentifier(uri=self.uri)
        params = types.CompletionParams(text_document=document, position=self.position)
        result = await self.client.text_document_completion_async(params)
        assert isinstance(result, types.CompletionList)
        return result

    def accept(self, item: types.InlineCompletionItem) -> str:
        """The document after the item, put in as an editor does."""
        assert isinstance(item.insert_text, str)
        assert item.range is not None and item.range.start.line == item.range.end.line
        assert item.range.start == self.position
        added = item.range.end.character - item.range.start.character
        return self.text[: self.cursor] + item.insert_text + self.text[self.cursor + added :]


async def _listed(future: asyncio.Future[Any]) -> types.InlineCompletionList | None:
    result = await future
    assert result is None or isinstance(result, types.InlineCompletionList)
    return result


class Editor:
    def __init__(self, client: LanguageClient, result: types.InitializeResult, statuses: list[Any]) -> None:
        self.client = client
        self.server = result.capabilities
        self.statuses = statuses
        """What `didChangeStatus` told, oldest first."""
        self._opened = 0
        self.registered: asyncio.Queue[types.Registration] = asyncio.Queue()

    def open(self, marked: str, path: Path | str | None = None, language: str = "python") -> Buffer:
        """A document of its own, unless `path` says which."""
        self._opened += 1
        uri = Path(path or f"/nowhere/sample{self._opened}.py").as_uri()
        return Buffer(self.client, uri, marked, language)

    def configure(self, settings: object) -> None:
        params = types.DidChangeConfigurationParams(settings=settings)
        self.client.workspace_did_change_configuration(params)

    async def accepted(self, item: types.InlineCompletionItem) -> object:
        assert item.command is not None
        command = types.ExecuteCommandParams(command=item.command.command, arguments=item.command.arguments)
        return await self.client.workspace_execute_command_async(command)

    def cancel_all(self) -> None:
        for identifier in list(self.client.protocol._request_futures):
            self.client.cancel_request(types.CancelParams(id=identifier))

    @property
    def log(self) -> list[str]:
        return [message.message for message in self.client.log_messages]

    async def is_told(self, state: str) -> None:
        """Returns once the last status that was told is this one."""
        async with asyncio.timeout(20):
            while not self.statuses or self.statuses[-1].state != state:
                await self.client.wait_for_notification("didChangeStatus")

    async def logged(self, count: int) -> list[str]:
        async with asyncio.timeout(20):
            while len(self.client.log_messages) < count:
                await self.client.wait_for_notification(types.WINDOW_LOG_MESSAGE)
        return self.log


@asynccontextmanager
async def editor(
    *,
    capabilities: types.ClientCapabilities | None = None,
    encodings: list[str] | None = None,
    environ: dict[str, str] | None = None,
    configuration: object = None,
    answers: Callable[..., object] | None = None,
    folder: Path | None = None,
    **options: object,
) -> AsyncIterator[Editor]:
    """A session with its own server process; `options` are the initializationOptions. Looking ahead is off unless they
    say otherwise: most tests count requests."""
    client = make_test_lsp_client()
    statuses: list[Any] = []
    client.feature("didChangeStatus")(lambda params: statuses.append(params))
    if configuration is not None:
        client.set_configuration({"homespun": configuration})
    if answers is not None:  # when it is asked for its configuration
        client.protocol.fm._features.pop(types.WORKSPACE_CONFIGURATION, None)
        client.feature(types.WORKSPACE_CONFIGURATION)(answers)
    clean = {name: value for name, value in os.environ.items() if not name.startswith("HOMESPUN_")}
    await client.start_io(*COMMAND, env=clean | {"XDG_STATE_HOME": _STATE.name} | (environ or {}))
    capabilities = capabilities or types.ClientCapabilities()
    if encodings:
        capabilities.general = types.GeneralClientCapabilities(
            position_encodings=[types.PositionEncodingKind(name) for name in encodings]
        )
    folders = [types.WorkspaceFolder(uri=folder.as_uri(), name=folder.name)] if folder else None
    result = await client.initialize_session(
        types.InitializeParams(
            capabilities=capabilities,
            initialization_options={"prefetch": False} | options,
            workspace_folders=folders,
            root_uri=None,
        )
    )
    session = Editor(client, result, statuses)

    def register(params: types.RegistrationParams) -> None:
        for registration in params.registrations:
            session.registered.put_nowait(registration)

    client.feature(types.CLIENT_REGISTER_CAPABILITY)(register)
    try:
        yield session
        assert not client.messages, "never a pop-up"
    finally:
        await client.shutdown_session()
        await client.stop()  # type: ignore[no-untyped-call]
