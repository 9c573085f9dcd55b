"""The language server: one editor's documents, options and servers, and what to suggest in them."""

from __future__ import annotations

import asyncio
import logging
import sys
import time
import traceback
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from threading import Event
from typing import Any, BinaryIO

from lsprotocol import types
from pygls.exceptions import JsonRpcException
from pygls.io_ import StdinAsyncReader, StdoutWriter, run_async
from pygls.lsp.server import LanguageServer

from homespun_core import __version__
from homespun_core.types import Trigger
from homespun_lsp import account, asking, options
from homespun_lsp.account import Account
from homespun_lsp.client import CompletionClient
from homespun_lsp.context import Place, Query, query_at
from homespun_lsp.documents import Document, Documents, Step
from homespun_lsp.files import Files
from homespun_lsp.neighbourhood import Neighbourhood
from homespun_lsp.pace import Pace
from homespun_lsp.pieces import Piece
from homespun_lsp.preparing import Preparer
from homespun_lsp.protocol import DocumentProtocol
from homespun_lsp.repository import Repositories
from homespun_lsp.servers import Servers, server_of, servers_of
from homespun_lsp.signals import Signals
from homespun_lsp.status import Status
from homespun_lsp.suggest import Suggester
from homespun_lsp.suggestions import Suggestion
from homespun_lsp.uris import path_of
from homespun_lsp.watch import Watch

logger = logging.getLogger(__name__)

CONFIGURED_WITHIN_S = 5.0
"""An editor that hasn't said by then what it is set to never will; the defaults count."""


class HomespunServer(LanguageServer):
    protocol: DocumentProtocol

    def __init__(self, defaults: options.Options) -> None:
        super().__init__("homespun", __version__, protocol_cls=DocumentProtocol)
        self.protocol.follower = self
        self._defaults = defaults
        self._initial: object = None
        self.editor_name = ""
        self._warned: set[str] = set()
        self._is_configured = asyncio.Event()
        """Before, nothing is sent anywhere: it may be for another server."""
        self._in_front = ""
        """The document that was focused or asked about last."""
        self.options = self._defaults
        self.servers = Servers(default=self.options)
        self.counts: Counter[str] = Counter()
        self.client = CompletionClient(self.say, self.announce)
        self.account = Account(self.client, self.say)
        self.signals = Signals(self.client.tell)
        self.watch = Watch(self.signals.note, self.documents.get)
        self._pace = Pace()
        self.suggester = Suggester(self._fetch, self.documents.get, self._pace)
        self.preparer = Preparer(self._prepare)
        self._repositories = Repositories()
        self._files = Files(self._repositories)
        self._neighbourhood = Neighbourhood(self.documents.get)
        self._with_several_cursors: set[str] = set()

    def serve(self, stdin: BinaryIO, stdout: BinaryIO) -> None:
        """One editor, to its end, which is that of the process."""
        self.protocol.set_writer(StdoutWriter(stdout))
        asyncio.run(self._serve(stdin))

    async def _serve(self, stdin: BinaryIO) -> None:
        reader = StdinAsyncReader(stdin, self.thread_pool)  # one of its own: others may hang on a disk
        try:
            await run_async(Event(), reader, self.protocol, error_handler=self.report_server_error)
        finally:
            self.protocol.lsp_exit()

    def end_with(self, process: int) -> None:
        self._editor_ends = asyncio.create_task(self.protocol.end_with(process))

    @property
    def documents(self) -> Documents:
        return self.protocol.documents

    def say(self, line: str, is_problem: bool) -> None:
        """Into the editor's log, never into the way of somebody writing."""
        kind = types.MessageType.Warning if is_problem else types.MessageType.Info
        self.window_log_message(types.LogMessageParams(type=kind, message=line))

    def announce(self, status: Status) -> None:
        """To editors that show it. Others may complain: lsp-mode in the echo area, at each."""
        is_wanted = account.is_wanted(self.options.send_status, self.editor_name, self._initial)
        if is_wanted:
            self.protocol.notify(account.STATUS_CHANGED, status.as_json())

    def focus(self, uri: str, position: types.Position | None = None) -> None:
        self._in_front = uri
        if self._is_configured.is_set():
            self.client.use(self.options_in_front)
        document = self.documents.get(uri)
        if document is not None and position is not None:
            self.preparer.at(Place(document=document, text=document.text, offset=document.offset_at(position)))

    @property
    def options_in_front(self) -> options.Options:
        return self.options_for(self._in_front) if self._in_front else self.options

    def options_for(self, uri: str) -> options.Options:
        """Files may have servers of their own."""
        name = path_of(uri)
        file = Path(name) if name else None
        repository = self._repositories.of(file) if file else None
        paths = (file, self._repositories.real(file)) if file else ()
        return self.servers.options_for(paths, repository.name if repository else None)

    def report_server_error(self, error: Exception, source: Any) -> None:
        """In place of pygls' pop-up. The kind and the place alone: the text of an error may quote code."""
        caught = sys.exception() or error  # pygls wraps it
        where = [f"{frame.filename}:{frame.lineno}" for frame in traceback.extract_tb(caught.__traceback__)][-1:]
        logger.error("%s: %s %s", getattr(source, "__name__", source), type(caught).__name__, *(where or [""]))

    def configure(self, section: object, *, initial: bool = False) -> None:
        """The section of the configuration replaces the one before; initializationOptions stay below it, but for what
        they say holds until there is one: that takes its place."""
        if initial:
            self._initial, section = section, options.until_configured(section)
        base, initially_wrong = options.merge(self._defaults, self._initial)
        merged, wrong = options.merge(base, section)
        servers, wrong_there = servers_of(merged)
        self.options, self.servers = merged, servers
        self._neighbourhood.choose_anew()
        if not initial:
            self._is_configured.set()
            self.client.keep_only(self.servers.all)
            if not all(each.send_events for each in self.servers.options):
                self.client.tell_no_more()
            self.client.use(self.options_in_front)
        for name, problem in (initially_wrong | wrong | wrong_there).items():
            if name not in self._warned:
                self._warned.add(name)
                self.say(f"Homespun: option {name!r}: {problem}", True)

    def take_defaults(self) -> None:
        """Until the editor says otherwise."""
        if not self._is_configured.is_set():
            self._is_configured.set()
            self.client.use(self.options_in_front)

    @property
    def can_be_pulled(self) -> bool:
        workspace = self.client_capabilities.workspace
        return bool(workspace and workspace.configuration)

    async def pull_configuration(self) -> None:
        if not self.can_be_pulled:
            return
        wanted = types.ConfigurationParams(items=[types.ConfigurationItem(section=options.SECTION)])
        try:
            self.configure(next(iter(await self.workspace_configuration_async(wanted) or []), None))
        except JsonRpcException as error:
            logger.warning("the editor refuses workspace/configuration: %s", type(error).__name__)

    async def watch_configuration(self) -> None:
        workspace = self.client_capabilities.workspace
        watched = workspace.did_change_configuration if workspace else None
        if watched is None or not watched.dynamic_registration:
            return
        about = types.DidChangeConfigurationRegistrationOptions(section=options.SECTION)
        method = types.WORKSPACE_DID_CHANGE_CONFIGURATION
        registration = types.Registration(id="homespun-options", method=method, register_options=about)
        try:
            await self.client_register_capability_async(types.RegistrationParams(registrations=[registration]))
        except JsonRpcException as error:
            logger.warning("the editor refuses client/registerCapability: %s", type(error).__name__)

    async def suggest(self, place: Place, *, invoked: bool, deadline_ms: int | None = None) -> Suggestion | None:
        """As `Suggester.suggest`, or empty where asking is switched off or useless."""
        self._in_front = place.document.uri
        self.preparer.stop()
        is_configured = await self._configured_by(deadline_ms)
        if reason := await self._why_not(place, invoked=invoked) if is_configured else "not configured":
            self.counts[reason] += 1
            logger.debug("not asked: %s", reason)
            if reason == "after a closer":  # the next key may ask
                self.preparer.at(place)
            return Suggestion(text=place.text, offset=place.offset, completion="")
        self.watch.asked(place)
        wait_ms = 0 if invoked else self._pace.wait_ms(time.monotonic(), self.options.debounce_ms)
        trigger: Trigger = "invoked" if invoked else "typed"
        found = await self.suggester.suggest(place, trigger=trigger, wait_ms=wait_ms, deadline_ms=deadline_ms)
        return self._suggested(place, found) if found and found.completion else found

    async def _configured_by(self, deadline_ms: int | None) -> bool:
        within_s = CONFIGURED_WITHIN_S if deadline_ms is None else deadline_ms / 1e3
        try:
            await asyncio.wait_for(self._is_configured.wait(), within_s)
        except TimeoutError:
            return False
        return True

    async def _why_not(self, place: Place, *, invoked: bool) -> asking.Reason | None:
        if not self.options.enable:
            return "off"
        document = place.document
        has_several_cursors = document.uri in self._with_several_cursors
        file = await self._files.of(document, self.options, has_several_cursors=has_several_cursors)
        is_known = self.suggester.knows(place)
        reason = asking.why_not(place, file, invoked=invoked, is_known=is_known)
        if reason is None and not (invoked or is_known) and self.client.is_away(self.options_for(document.uri)):
            return "server away"
        return reason

    def _suggested(self, place: Place, found: Suggestion) -> Suggestion:
        """What the editor gets: without the id that its server would be told of where that is told nothing."""
        self.counts["suggested"] += 1
        made = found.made if self.options_for(place.document.uri).send_events else None
        if made:
            self.watch.offered(made, place, found.completion)
        if self.options.prefetch:
            self.suggester.look_ahead(asking.ahead_of(place, found.completion))
        return replace(found, made=made)

    def opened(self, uri: str) -> None:
        self._neighbourhood.opened(uri)

    def changed(self, uri: str, steps: Sequence[Step]) -> None:
        self.preparer.stop()
        self.watch.changed(uri, steps)
        self._neighbourhood.changed(uri, steps)
        self._with_several_cursors.discard(uri)
        if asking.is_typed_at_several_cursors(steps):
            self._with_several_cursors.add(uri)
        if asking.is_key(steps):
            self._pace.key(time.monotonic())

    def closed(self, uri: str) -> None:
        self.preparer.left(uri)
        self.suggester.forget(uri)
        self.watch.closed(uri)
        self._neighbourhood.closed(uri)
        self._with_several_cursors.discard(uri)

    def offers_menu(self) -> bool:
        """An editor that shows ghost text would otherwise show everything twice."""
        if self.options.completion != "auto":
            return self.options.completion == "on"
        editor = self.client_capabilities.text_document
        return editor is None or editor.inline_completion is None

    def reads_markdown(self) -> bool:
        editor = self.client_capabilities.text_document
        item = editor.completion.completion_item if editor and editor.completion else None
        return bool(item and types.MarkupKind.Markdown in (item.documentation_format or []))

    async def _fetch(self, place: Place, trigger: Trigger) -> Suggestion:
        query = await self._query(place, trigger)
        answer = await self.client.complete(query, self.options_for(place.document.uri))
        self.counts[f"asked: {trigger}"] += 1
        logger.debug("%d + %d characters sent, %d suggested", len(query.prefix), len(query.suffix), len(answer.text))
        return Suggestion(text=place.text, offset=place.offset, completion=answer.text, made=answer.id)

    async def _prepare(self, place: Place) -> None:
        if not (await self._configured_by(None) and self.options.prefetch):
            return
        if await self._why_not(place, invoked=False) not in (None, "after a closer"):
            return
        query = await self._query(place, "typed")
        self.counts["prepared"] += 1
        await self.client.prepare(query, self.options_for(place.document.uri))

    async def _query(self, place: Place, trigger: Trigger) -> Query:
        query = query_at(place, self._folders(), self._repositories)
        return replace(
            query,
            commit=await self._files.commit(place.document),
            pieces=await self._pieces(place, query.prefix) if self.options.editor_context else (),
            is_block=self._wants_block(place),
            trigger=trigger,
        )

    async def _pieces(self, place: Place, prefix: str) -> Sequence[Piece]:
        server = server_of(self.options_for(place.document.uri))

        def may_go_there(uri: str) -> bool:
            own = self.options_for(uri)
            return own.enable and server_of(own) == server

        async def paths(others: Sequence[Document]) -> dict[str, str]:
            same = [other for other in others if may_go_there(other.uri)]
            return await self._files.siblings(place.document, same, self.options)

        return await self._neighbourhood.pieces(place, prefix, paths)

    def _wants_block(self, place: Place) -> bool:
        if self.options.multi_line != "auto":
            return self.options.multi_line == "always"
        return asking.wants_block(place.text, place.offset, place.document.language)

    def _folders(self) -> tuple[Path, ...]:
        names = [path_of(folder.uri) for folder in self.workspace.folders.values()]
        return tuple(Path(name) for name in (*names, self.workspace.root_path) if name)
