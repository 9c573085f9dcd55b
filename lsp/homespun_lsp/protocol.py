"""The protocol where pygls' own way of it doesn't do: documents, and the end."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from contextvars import ContextVar
from typing import TYPE_CHECKING, NoReturn, Protocol

from lsprotocol import types
from pygls.lsp.server import LanguageServer
from pygls.protocol import LanguageServerProtocol, lsp_method

from homespun_lsp.documents import Document, Documents, Step

if TYPE_CHECKING:
    from cattrs import Converter
    from pygls.protocol.json_rpc import RPCMessage

_LOOK_S = 5.0
_asked_about: ContextVar[Document | None] = ContextVar("asked_about", default=None)


class Follower(Protocol):
    """Whoever is told of documents, once they are as it says."""

    def opened(self, uri: str) -> None: ...

    def changed(self, uri: str, steps: Sequence[Step]) -> None: ...

    def closed(self, uri: str) -> None: ...


class DocumentProtocol(LanguageServerProtocol):
    """Keeps the documents itself; what pygls does with them is replaced, not called (see `positions`)."""

    follower: Follower

    def __init__(self, server: LanguageServer, converter: Converter) -> None:
        self.documents = Documents()
        super().__init__(server, converter)

    def handle_message(self, message: RPCMessage) -> None:
        named = getattr(getattr(message, "params", None), "text_document", None)
        _asked_about.set(self.documents.get(named.uri) if named is not None else None)
        super().handle_message(message)

    @lsp_method(types.TEXT_DOCUMENT_DID_OPEN)
    def lsp_text_document__did_open(self, params: types.DidOpenTextDocumentParams) -> None:
        self.documents.open(params.text_document)
        self.follower.opened(params.text_document.uri)

    @lsp_method(types.TEXT_DOCUMENT_DID_CHANGE)
    def lsp_text_document__did_change(self, params: types.DidChangeTextDocumentParams) -> None:
        uri, version = params.text_document.uri, params.text_document.version
        if self.documents.get(uri):
            self.follower.changed(uri, self.documents.change(uri, version, params.content_changes))

    @lsp_method(types.TEXT_DOCUMENT_DID_CLOSE)
    def lsp_text_document__did_close(self, params: types.DidCloseTextDocumentParams) -> None:
        self.documents.close(params.text_document.uri)
        self.follower.closed(params.text_document.uri)

    @lsp_method(types.EXIT)
    def lsp_exit(self, *params: object) -> NoReturn:
        """At once. Python would wait for its threads, and one may wait for a keyring's question, for a network drive
        that is away, or for the next message."""
        os._exit(0 if self._shutdown else 1)

    async def end_with(self, process: int) -> None:
        """The editor's. Its end of our standard input may live on, in processes that it has started."""
        while is_running(process):  # noqa: ASYNC110  # nobody tells
            await asyncio.sleep(_LOOK_S)
        self.lsp_exit()


def asked_about() -> Document | None:
    """The document of the message being handled, as it was when the message came in. Handlers run later: over TCP, a
    change that arrived in the same packet has been applied by then."""
    return _asked_about.get()


def is_running(process: int) -> bool:
    """One that is elsewhere, as beyond the wall of a container, isn't. On Windows nothing can be asked in this way."""
    if os.name == "nt":
        return False
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
