"""What the editor's messages set going. `create_server(options).serve(stdin, stdout)` runs it."""

from __future__ import annotations

import asyncio
import logging

from lsprotocol import types

from homespun_lsp import account, items, options
from homespun_lsp.context import Place
from homespun_lsp.protocol import asked_about, is_running
from homespun_lsp.server import CONFIGURED_WITHIN_S, HomespunServer

logger = logging.getLogger(__name__)

_TRIGGERS = [".", "(", "[", "{", ",", "="]


def create_server(defaults: options.Options) -> HomespunServer:
    """`defaults` are what the editor doesn't say."""
    server = HomespunServer(defaults)
    server.feature(types.INITIALIZE)(_initialize)
    server.feature(types.INITIALIZED)(_initialized)
    server.feature(types.SHUTDOWN)(_shutdown)
    server.feature(types.WORKSPACE_DID_CHANGE_CONFIGURATION)(_did_change_configuration)
    # Always advertised: lsp-mode supports it and doesn't say so. Without options, pygls would advertise nothing.
    server.feature(types.TEXT_DOCUMENT_INLINE_COMPLETION, types.InlineCompletionOptions())(_inline_completion)
    server.feature(types.TEXT_DOCUMENT_COMPLETION, types.CompletionOptions(trigger_characters=_TRIGGERS))(_completion)
    server.feature(types.TEXT_DOCUMENT_DID_SAVE)(_did_save)
    server.feature("textDocument/didShowCompletion")(_did_show)
    server.feature("textDocument/didPartiallyAcceptCompletion")(_did_partially_accept)
    server.command(items.ACCEPTED)(_accepted)
    account.register(server, server.account, server.focus)
    return server


async def _inline_completion(
    ls: HomespunServer, params: types.InlineCompletionParams
) -> types.InlineCompletionList | None:
    """Null leaves in Neovim what is shown, for requests that a newer one has overtaken; an empty list clears it."""
    document = asked_about()
    place = items.place_of(document, params) if document else None
    if place is None:
        return types.InlineCompletionList(items=[])
    invoked = params.context.trigger_kind == types.InlineCompletionTriggerKind.Invoked
    found = await ls.suggest(place, invoked=invoked)
    if found is None:
        return None
    chosen = params.context.selected_completion_info
    item = items.inline_item(place, found.completion, chosen, found.made) if found.completion else None
    return types.InlineCompletionList(items=[item] if item else [])


async def _completion(ls: HomespunServer, params: types.CompletionParams) -> types.CompletionList:
    """Always incomplete, so that the editor asks again at the next key instead of filtering what it has."""
    document = asked_about()
    if document is None or not ls.offers_menu():
        return types.CompletionList(is_incomplete=False, items=[])
    place = Place(document=document, text=document.text, offset=document.offset_at(params.position))
    found = await ls.suggest(place, invoked=False, deadline_ms=ls.options.completion_deadline_ms)
    if not found or not found.completion:
        return types.CompletionList(is_incomplete=True, items=[])
    item = items.menu_item(place, found.completion, markdown=ls.reads_markdown(), made=found.made)
    return types.CompletionList(is_incomplete=True, items=[item])


def _accepted(ls: HomespunServer, *arguments: object) -> None:
    ls.counts["accepted"] += 1
    match arguments:
        case [str(made), int(characters)] | [[str(made), int(characters)]]:
            ls.watch.told_accepted(made, max(0, characters))


def _did_show(ls: HomespunServer, params: object) -> None:
    if told := items.told(params):
        ls.watch.told_shown(told.completion)


def _did_partially_accept(ls: HomespunServer, params: object) -> None:
    if (told := items.told(params)) and told.accepted is not None:
        ls.watch.told_accepted(told.completion, max(0, told.accepted - ls.watch.num_given(told.completion)))


def _did_save(ls: HomespunServer, params: types.DidSaveTextDocumentParams) -> None:
    ls.watch.saved(params.text_document.uri)


def _initialize(ls: HomespunServer, params: types.InitializeParams) -> None:
    for encoding in ("utf-8", "utf-16", "utf-32"):
        if ls.workspace.position_encoding == encoding:
            ls.documents.encoding = encoding
    ls.editor_name = ls.client.editor = params.client_info.name if params.client_info else ""
    ls.configure(params.initialization_options, initial=True)
    if ls.can_be_pulled and options.until_configured(params.initialization_options) is None:
        asyncio.get_running_loop().call_later(CONFIGURED_WITHIN_S, ls.take_defaults)
    else:
        ls.take_defaults()
    if params.process_id and is_running(params.process_id):
        ls.end_with(params.process_id)


async def _initialized(ls: HomespunServer, params: types.InitializedParams) -> None:
    await ls.pull_configuration()
    ls.take_defaults()
    await ls.watch_configuration()


async def _did_change_configuration(ls: HomespunServer, params: types.DidChangeConfigurationParams) -> None:
    """Editors send the new values, or nothing but the news that there are some."""
    if options.are_given(params.settings):
        ls.configure(params.settings)
    else:
        await ls.pull_configuration()


async def _shutdown(ls: HomespunServer, *params: object) -> None:
    logger.debug("in all: %s", ", ".join(f"{reason} {count}" for reason, count in ls.counts.most_common()))
    ls.suggester.forget_all()
    ls.preparer.stop()
    ls.watch.close()
    await ls.signals.close()
    await ls.account.close()
    await ls.client.close()
