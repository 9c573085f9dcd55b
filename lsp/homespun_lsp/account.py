"""What editors ask about the server and the user: how it stands, signing in and out. For a program that shows it;
nothing here opens a dialog.

Copilot's editors know `signIn`, `signOut` and `checkStatus`; ours use the commands, which say the same.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from lsprotocol import types
from pygls.lsp.server import LanguageServer

from homespun_core.errors import ServiceError
from homespun_lsp import backends
from homespun_lsp.client import CompletionClient
from homespun_lsp.connection import Connection
from homespun_lsp.signin import device, tokens
from homespun_lsp.status import SIGN_IN, State

STATUS = "homespun/status"
STATUS_CHANGED = "didChangeStatus"
SIGN_OUT = "homespun.signOut"
FINISH = "homespun.finishSignIn"
_SHOWS_STATUS = ("neovim", "visual studio code", "vscodium", "code - oss")
"""Editors that have our plugin, or pass over what they don't know in silence."""
_Reply = dict[str, object]


def is_wanted(send_status: str, editor: str, initial: object) -> bool:
    """Whether an editor is told of its own accord. Who says `editorInfo` speaks Copilot's dialect."""
    if send_status != "auto":
        return send_status == "on"
    speaks_copilot = isinstance(initial, Mapping) and "editorInfo" in initial
    return speaks_copilot or editor.lower().startswith(_SHOWS_STATUS)


class Account:
    """Of the user, with the server that is current."""

    def __init__(self, client: CompletionClient, say: Callable[[str, bool], None]) -> None:
        self._client, self._say = client, say
        self._waiting: asyncio.Task[bool] | None = None
        """For the person who was given a code."""

    def status(self) -> _Reply:
        connection = self._client.current
        about = (
            {
                "backend": connection.backend,
                "isSignedIn": connection.has_token,
                "keepsCompletions": list(connection.keeps),
            }
            if connection
            else {}
        )
        return self._client.status.as_json() | about | {"servers": [s.as_json() for s in self._client.standings()]}

    def check(self) -> _Reply:
        is_in = self._client.status.state not in (State.SIGNED_OUT, State.NOT_PERMITTED)
        return {"status": "OK" if is_in else "NotSignedIn"}

    async def sign_in(self) -> _Reply:
        """The code to show and the address to open; meanwhile we wait for the person to have done it."""
        connection = self._client.current
        if connection is None:
            return _failed("Homespun is paused; enable it first")
        await connection.open()
        if connection.server.token:
            return _failed("a token is set in the options or in HOMESPUN_API_TOKEN, and it wins; remove it to sign in")
        if connection.backend != backends.HOMESPUN:
            return _failed(f"the server is a stock one ({connection.backend}); it takes a key from the option 'token'")
        if connection.has_token and connection.status.state is State.READY:
            return {"status": "AlreadySignedIn"}
        return await self._invite(connection)

    async def finish(self) -> _Reply:
        """When the person has done it, or hasn't for too long."""
        is_done = self._waiting is not None and await asyncio.shield(self._waiting)
        return {"status": "OK" if is_done else "NotSignedIn"}

    async def sign_out(self) -> _Reply:
        connection = self._client.current
        if connection is None:
            return _failed("Homespun is paused; enable it first")
        url = connection.server.url
        kept = await asyncio.to_thread(tokens.find, url)
        if kept is not None and connection.http is not None:
            await device.revoke(connection.http, url, kept.token)
        await asyncio.to_thread(tokens.forget, url)
        await connection.signed_in()
        return {"status": "NotSignedIn"}

    async def close(self) -> None:
        if self._waiting is not None:
            self._waiting.cancel()

    async def _invite(self, connection: Connection) -> _Reply:
        if connection.http is None:
            return _failed(connection.status.message)
        try:
            invitation = await device.invite(connection.http, connection.server.url)
        except ServiceError as error:
            return _failed(str(error))
        await self.close()
        self._waiting = asyncio.create_task(self._wait(connection, invitation))
        command = {"command": FINISH, "title": "Finish signing in to Homespun", "arguments": []}
        return {"status": "PromptUserDeviceFlow", "command": command} | invitation.as_json()

    async def _wait(self, connection: Connection, invitation: device.Invitation) -> bool:
        assert connection.http is not None
        try:
            token = await device.await_token(connection.http, connection.server.url, invitation)
            place = await asyncio.to_thread(tokens.keep, connection.server.url, token)
        except (ServiceError, OSError) as error:
            self._say(f"Homespun: not signed in: {error}", True)
            return False
        self._say(f"Homespun: signed in; the token is in {place}", False)
        await connection.signed_in()
        return True


def register(server: LanguageServer, account: Account, focus: Callable[[str, types.Position | None], None]) -> None:
    """`focus` is told which document is in front: the status to show is that of its server; and where the cursor is in
    it, where the editor says that."""

    def status(*params: object) -> _Reply:
        return account.status()

    def check_status(*params: object) -> _Reply:
        return account.check()

    async def sign_in(*params: object) -> _Reply:
        return await account.sign_in()

    async def sign_out(*params: object) -> _Reply:
        return await account.sign_out()

    async def finish(*params: object) -> _Reply:
        return await account.finish()

    def did_focus(params: Any) -> None:
        uri = getattr(getattr(params, "textDocument", None), "uri", None)  # none when no file is in front
        if isinstance(uri, str):
            focus(uri, _position(getattr(params, "position", None)))

    requests = {STATUS: status, "checkStatus": check_status, "signIn": sign_in, "signOut": sign_out}
    for method, answer in requests.items():
        server.feature(method)(answer)
    for command, execute in {SIGN_IN: sign_in, SIGN_OUT: sign_out, FINISH: finish}.items():
        server.command(command)(execute)
    server.feature("textDocument/didFocus")(did_focus)


def _position(given: object) -> types.Position | None:
    match getattr(given, "line", None), getattr(given, "character", None):
        case int(line), int(character):
            return types.Position(line=max(0, line), character=max(0, character))
    return None


def _failed(message: str) -> _Reply:
    return {"status": "Error", "message": message}
