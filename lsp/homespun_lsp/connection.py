"""One server: the way there, what kind it is, how it is, and when to leave it alone."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from urllib.parse import urlsplit

import httpx

from homespun_core.errors import ConfigError
from homespun_core.postprocess import before_unseen, finish
from homespun_lsp import backends
from homespun_lsp.backends.exchange import Answer, Ask, Call
from homespun_lsp.backends.templates import family_named, family_of_model
from homespun_lsp.backoff import Backoff
from homespun_lsp.context import Query
from homespun_lsp.network import CONNECT_S, Reply, client_for, explain, reply_to
from homespun_lsp.options import token_problem
from homespun_lsp.positions import plain_line_ends
from homespun_lsp.servers import Server
from homespun_lsp.signin import tokens
from homespun_lsp.signin.place import kept_in
from homespun_lsp.status import State, Status
from homespun_lsp.verdicts import NONSENSE, Trouble, verdict

NOTHING = Answer("")
_PROBE = "/v1/models"
_PROBE_S = 5.0
_LOOK_S = 3.0
"""How often a signed-out editor looks whether somebody signed in; that is the date of one file."""
_MAX_CHARS = 10_000
"""Of a completion, whatever the server thinks of the limit it was given."""
_AWAY = frozenset((State.OFFLINE, State.STARTING))
"""Whose end a question of our own finds, so that no key is spent on it. The end of others a completion finds, now and
then: there are servers that tell everybody their models, and completions to some."""
_WATCHED = _AWAY | {State.SIGNED_OUT}
_OURS = frozenset((backends.HOMESPUN, "tabby"))
"""Servers that do their own post-processing."""


class Connection:
    def __init__(self, server: Server, note: Callable[[Connection], None], editor: str = "") -> None:
        """`note` is called when the status has changed. Nothing happens before `open`."""
        self.server, self._editor = server, editor
        self._note = note
        self._http: httpx.AsyncClient | None = None
        self._token = server.token
        self._stamp: tuple[int, int] | None = None
        """Of the kept token when it was read."""
        self._backend, self._model = server.backend, server.model
        self._backoff = Backoff()
        self._opening: asyncio.Task[None] | None = None
        self._mending: asyncio.Task[None] | None = None
        self._is_closed = False
        self.status = Status(state=State.CONNECTING, server=origin_of(server.url))
        self.keeps: tuple[str, ...] = ()
        """Repositories whose completions the server keeps, with their prompts."""

    @property
    def backend(self) -> str:
        """What isn't recognised, or not yet, is taken for ours."""
        return backends.HOMESPUN if self._backend == backends.AUTO else self._backend

    @property
    def http(self) -> httpx.AsyncClient | None:
        """None before `open`, and where the way makes no sense."""
        return self._http

    @property
    def has_token(self) -> bool:
        return bool(self._token)

    def open(self) -> asyncio.Task[None]:
        """Find out, once, what is there. Cancelling who waits for it doesn't end it."""
        if self._opening is None:
            self._opening = asyncio.create_task(self._open())
        return self._opening

    async def complete(self, ask: Ask, *, timeout_ms: int) -> Answer:
        """Cancelling closes the connection, upon which the server stops. Never raises otherwise: no answer is none.

        While the server is in trouble this costs nothing, unless somebody asks by hand.
        """
        await asyncio.shield(self.open())
        by_hand = ask.query.trigger == "invoked"
        if not (by_hand or self.is_worth_asking) or self._http is None or self._is_closed:
            return NOTHING
        if by_hand and self.status.state is State.SIGNED_OUT:
            await self._read_token()
        call = backends.BACKENDS[self.backend].call(self._filled(ask))
        try:
            reply = await self._post(self._http, call, timeout_ms / 1000)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            self._settle(_trouble_of(error))
            return NOTHING
        trouble = verdict(reply.status, reply.headers, path=call.path, has_token=bool(self._token))
        answer = _read(reply, self.backend) if trouble is None else None
        self._settle(trouble or (NONSENSE if answer is None else None))
        return self._finished(answer, ask.query) if answer else NOTHING

    async def prepare(self, ask: Ask, *, timeout_ms: int) -> None:
        """Only where the server is known to be one of ours, and well; that it has no time for this says nothing of
        completions."""
        await asyncio.shield(self.open())
        is_ours = self._backend == backends.HOMESPUN and self.status.state is State.READY
        if is_ours and self.is_worth_asking and self._http is not None and not self._is_closed:
            call = backends.BACKENDS[self._backend].call(ask)
            with suppress(httpx.HTTPError, httpx.InvalidURL):
                await self._post(self._http, call, timeout_ms / 1000)

    async def tell(self, path: str, body: Mapping[str, object]) -> bool:
        """What a Homespun server wants to know. False when it should be told again later; what it refuses, it won't
        take then either, and others have no use for it."""
        await asyncio.shield(self.open())
        if self.backend != backends.HOMESPUN or self._http is None or self._is_closed:
            return True
        if self.status.state in _AWAY:
            return False
        try:
            reply = await self._post(self._http, Call(path=path, body=body), CONNECT_S)
        except (httpx.HTTPError, httpx.InvalidURL):
            return False
        return not (httpx.codes.is_server_error(reply.status) or reply.status == httpx.codes.TOO_MANY_REQUESTS)

    async def signed_in(self) -> None:
        """Somebody signed in or out a moment ago."""
        await self.open()
        await self._read_token()
        await self._probe()

    async def close(self) -> None:
        for task in (self._opening, self._mending):
            if task is not None:
                task.cancel()
        self._is_closed = True
        if self._http is not None:
            await self._http.aclose()

    async def _open(self) -> None:
        try:
            if wrong := token_problem(self.server.token):
                raise ConfigError(f"token: {wrong}")
            self._http = await asyncio.to_thread(client_for, self.server.url, self.server.route, self._editor)
        except ConfigError as error:
            self._settle(Trouble(state=State.FAILING, says=f"can't be asked: {error}"))
            return
        await self._read_token()
        await self._probe()

    async def _read_token(self) -> None:
        """In a thread: keyrings are asked over other processes."""
        self._stamp = tokens.stamp(self.server.url)
        if not self.server.token:
            kept = await asyncio.to_thread(tokens.find, self.server.url)
            self._token = kept.token if kept and not token_problem(kept.token) else ""

    async def _probe(self) -> None:
        """Whether the server is there and lets us in, and what kind it is. What it doesn't know of is no trouble: there
        are proxies that let completions through and nothing else."""
        try:
            reply = await self._get(_PROBE)
            found = backends.recognise(reply.body) if reply.status == httpx.codes.OK else None
            if reply.status == httpx.codes.NOT_FOUND and backends.is_tabby((await self._get("/v1/health")).body):
                found = backends.Recognised("tabby")
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            self._settle(_trouble_of(error))
            return
        if found is not None:
            self._backend = found.backend if self.server.backend == backends.AUTO else self.server.backend
            self._model = self.server.model or found.model
        trouble = verdict(reply.status, reply.headers, path=_PROBE, has_token=bool(self._token))
        if found is not None and found.backend == backends.HOMESPUN:
            self.keeps = kept_in(reply.body)
        self._settle(trouble if trouble and trouble.state in (*_WATCHED, State.NOT_PERMITTED) else None)

    async def _mend(self) -> None:
        """Looks after a server in trouble, until it is out of it."""
        while self.status.state in _WATCHED:
            if self.status.state is State.SIGNED_OUT:
                await asyncio.sleep(_LOOK_S)
                if tokens.stamp(self.server.url) == self._stamp:
                    continue
                await self._read_token()
            else:
                await asyncio.sleep(self._backoff.wait_s)
            await self._probe()

    def _settle(self, trouble: Trouble | None) -> None:
        if self._is_closed:
            return
        if trouble is None:
            self._backoff.succeed()
        else:
            self._backoff.fail(trouble.retry_s)
        state, says = (trouble.state, trouble.says) if trouble else (State.READY, "")
        status = Status(state=state, server=self.status.server, says=says)
        if status != self.status:
            self.status = status
            self._note(self)
        if state in _WATCHED and (self._mending is None or self._mending.done()):
            self._mending = asyncio.create_task(self._mend())

    @property
    def is_worth_asking(self) -> bool:
        return self.status.state not in _AWAY and not self._backoff.wait_s

    def _filled(self, ask: Ask) -> Ask:
        """With what the server wants to be told of its model."""
        template = family_named(self.server.fim)
        if self.server.fim == "auto" and self.backend in ("openai", "llama.cpp"):
            guessed = family_of_model(self._model)
            is_needed = guessed is not None and (self.backend == "openai" or guessed.is_suffix_first)
            template = guessed if is_needed else None
        return replace(ask, model=self._model, template=template)

    def _finished(self, answer: Answer, query: Query) -> Answer:
        text = before_unseen(plain_line_ends(answer.text[:_MAX_CHARS]))
        if self.backend in _OURS:
            return replace(answer, text=text)
        text = finish(
            query.prefix,
            text,
            query.suffix,
            multi_line=query.is_block,
            truncated=answer.is_truncated or len(text) < len(answer.text),
            language=query.language,
        )
        return replace(answer, text=text)

    async def _post(self, http: httpx.AsyncClient, call: Call, within_s: float) -> Reply:
        """Once more where the server closed an idle connection in the very moment that we used it."""
        # Half an emoji, which a JavaScript editor may send, is not valid UTF-8.
        content = json.dumps(call.body, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")
        try:
            return await self._reply(http, "POST", call.path, within_s, content, call.headers)
        except (httpx.RemoteProtocolError, httpx.ReadError, httpx.WriteError):
            if self._is_closed:
                raise
            return await self._reply(http, "POST", call.path, within_s, content, call.headers)

    async def _get(self, path: str) -> Reply:
        assert self._http is not None
        return await self._reply(self._http, "GET", path, _PROBE_S)

    async def _reply(
        self,
        http: httpx.AsyncClient,
        method: str,
        path: str,
        within_s: float,
        content: bytes | None = None,
        more: Mapping[str, str] | None = None,
    ) -> Reply:
        timeout = httpx.Timeout(within_s, connect=CONNECT_S)
        headers = {**self._headers, **({} if content is None else {"content-type": "application/json"}), **(more or {})}
        request = http.build_request(method, self.server.url + path, content=content, headers=headers, timeout=timeout)
        return await reply_to(http, request, within_s)

    @property
    def _headers(self) -> dict[str, str]:
        return {"authorization": f"Bearer {self._token}"} if self._token else {}


def origin_of(url: str) -> str:
    """The address without its path, which may hold a secret; a user or password can't be in it (see `options`)."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


def _trouble_of(error: httpx.HTTPError | httpx.InvalidURL) -> Trouble:
    is_slow = isinstance(error, httpx.TimeoutException) and not isinstance(error, httpx.ConnectTimeout)
    return Trouble(state=State.BUSY if is_slow else State.OFFLINE, says=explain(error))


def _read(reply: Reply, backend: str) -> Answer | None:
    try:
        return backends.BACKENDS[backend].answer(reply.body)
    except (LookupError, TypeError):
        return None
