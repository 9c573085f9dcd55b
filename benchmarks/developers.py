"""Developers who type at a server of completions, through the language server's own code, and hands."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count

from traces import Trace

from homespun_core.types import CLIENT_HEADER, Trigger
from homespun_lsp.asking import File, why_not
from homespun_lsp.backoff import Backoff
from homespun_lsp.context import Place, window
from homespun_lsp.documents import Document
from homespun_lsp.pace import Pace
from homespun_lsp.suggest import Suggester
from homespun_lsp.suggestions import Suggestion
from homespun_lsp.verdicts import verdict

PATH = "/v1/completions"
OK, NOTHING = 200, 204
_TIMEOUT_S = 10.0
"""As the language server's."""
_READING_S = 1.0


@dataclass(slots=True)
class Tally:
    """What one level saw, of requests sent while it was measured."""

    keys: int = 0
    typed_through: int = 0
    not_worth_asking: int = 0
    held_back: int = 0
    """Keys nothing was sent for, since the server had said when to come back."""
    outcomes: Counter[str] = field(default_factory=Counter[str])
    answered_ms: list[float] = field(default_factory=list[float])
    gone_ms: list[float] = field(default_factory=list[float])
    served: set[int] = field(default_factory=set[int])
    """Developers who got something to see."""
    is_open: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    """Names in lower case."""
    content: bytes


class Connection:
    """HTTP/1.1 by hand: the simulation runs on the machine that it measures, and httpx takes ten times the time."""

    def __init__(self, address: str, token: str = "", client: str = "") -> None:
        host, _, port = address.rpartition(":")
        self._host, self._port = host.strip("[]"), int(port)
        self._who = f"Authorization: Bearer {token}\r\n" if token else ""
        self._who += f"{CLIENT_HEADER}: {client}\r\n" if client else ""
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def post(self, path: str, body: bytes) -> Answer:
        head = f"POST {path} HTTP/1.1\r\nHost: {self._host}\r\n{self._who}Content-Type: application/json\r\n"
        return await self._asked(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)

    async def get(self, path: str) -> Answer:
        return await self._asked(f"GET {path} HTTP/1.1\r\nHost: {self._host}\r\n{self._who}\r\n".encode())

    async def _asked(self, message: bytes) -> Answer:
        """Cancelling it closes the connection. A kept one that the server has closed meanwhile is made anew."""
        is_kept = self._streams is not None
        try:
            try:
                return await self._exchanged(message)
            except (ConnectionError, asyncio.IncompleteReadError):
                self.close()
                if not is_kept:
                    raise
                return await self._exchanged(message)
        except BaseException:  # else the next request would read this one's answer
            self.close()
            raise

    def close(self) -> None:
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None

    async def _exchanged(self, message: bytes) -> Answer:
        if self._streams is None:
            self._streams = await asyncio.open_connection(self._host, self._port)
        reader, writer = self._streams
        writer.write(message)
        await writer.drain()
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
        lines = (line.partition(":") for line in head.split("\r\n")[1:])
        headers = {name: value.strip() for name, _, value in lines}
        content = await reader.readexactly(int(headers.get("content-length", "0")))
        if headers.get("connection") == "close":
            self.close()
        return Answer(status=int(head.split(" ", 2)[1]), headers=headers, content=content)


class Developer:
    """An editor with the language server's `Suggester`, and hands. Who isn't patient asks though it was told
    when to come back."""

    def __init__(
        self,
        number: int,
        address: str,
        repo_of: Callable[[Trace, int], str],
        tally: Tally,
        *,
        token: str = "",
        is_patient: bool = True,
    ) -> None:
        self._number, self._repo_of, self._tally = number, repo_of, tally
        self._client = f"developer-{number}"
        self._connection = Connection(address, token, self._client)
        self._documents: dict[str, Document] = {}
        self._backoff = Backoff() if is_patient else None
        self._pace = Pace()
        self._suggester = Suggester(self._fetch, self._documents.get, self._pace)
        self._repo = ""
        self._num_sent = 0
        self._tasks: set[asyncio.Task[None]] = set()

    async def work(self, traces: Sequence[Trace]) -> None:
        """For ever, until it is cancelled."""
        try:
            for turn in count():
                trace = traces[turn % len(traces)]
                self._repo = self._repo_of(trace, turn)
                await self._type(trace, f"file:///{turn}/{trace.path}")
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            self._connection.close()

    async def _type(self, trace: Trace, uri: str) -> None:
        typed, asked = "", None
        for version, key in enumerate(trace.keys):
            await asyncio.sleep(key.after_ms / 1e3)
            if asked is not None:
                asked.cancel()
            typed += key.text
            self._pace.key(time.monotonic())
            asked = asyncio.create_task(self._ask(self._place(trace, uri, typed, version)))
            self._tasks.add(asked)
            asked.add_done_callback(self._tasks.discard)
        await asyncio.sleep(_READING_S)
        self._suggester.forget(uri)
        self._documents.pop(uri, None)

    def _place(self, trace: Trace, uri: str, typed: str, version: int) -> Place:
        text = trace.prefix + typed + trace.suffix
        document = Document(uri=uri, language="", version=version, text=text, encoding="utf-16")
        self._documents[uri] = document
        return Place(document=document, text=text, offset=len(trace.prefix) + len(typed))

    async def _ask(self, place: Place) -> None:
        tally = self._tally
        tally.keys += tally.is_open
        is_known = self._suggester.knows(place)
        if why_not(place, File(), invoked=False, is_known=is_known):
            tally.not_worth_asking += tally.is_open
            return
        if self._backoff is not None and self._backoff.wait_s and not is_known:
            tally.held_back += tally.is_open
            return
        before = self._num_sent
        found = await self._suggester.suggest(place, wait_ms=self._pace.wait_ms(time.monotonic(), None))
        if found and found.completion and self._num_sent == before:
            tally.typed_through += tally.is_open

    async def _fetch(self, place: Place, trigger: Trigger) -> Suggestion:
        text, made = await self._answer(place)
        return Suggestion(text=place.text, offset=place.offset, completion=text, made=made)

    async def _answer(self, place: Place) -> tuple[str, str | None]:
        tally, is_counted = self._tally, self._tally.is_open
        self._num_sent += 1
        body, started = self._body(place), time.perf_counter()
        try:
            async with asyncio.timeout(_TIMEOUT_S):
                answer = await self._connection.post(PATH, body)
        except asyncio.CancelledError:
            if is_counted:
                tally.outcomes["gone"] += 1
                tally.gone_ms.append((time.perf_counter() - started) * 1e3)
            raise
        except (TimeoutError, OSError, asyncio.IncompleteReadError) as error:
            tally.outcomes["timeout" if isinstance(error, TimeoutError) else "broken"] += is_counted
            self._heed(503, {})
            return "", None
        self._heed(answer.status, answer.headers)
        text, made = _said(answer)
        if is_counted:
            self._note(answer.status, text, (time.perf_counter() - started) * 1e3)
        return text, made

    def _heed(self, status: int, headers: Mapping[str, str]) -> None:
        """As the language server's connection does."""
        if self._backoff is None:
            return
        trouble = verdict(status, headers, path=PATH, has_token=False) if status != NOTHING else None
        if trouble is None:
            self._backoff.succeed()
        else:
            self._backoff.fail(trouble.retry_s)

    def _note(self, status: int, text: str, ms: float) -> None:
        is_answer = status in (OK, NOTHING)
        self._tally.outcomes[("shown" if text else "empty") if is_answer else str(status)] += 1
        if is_answer:
            self._tally.answered_ms.append(ms)
            self._tally.served |= {self._number} if text else set()

    def _body(self, place: Place) -> bytes:
        prefix, suffix = window(place.text, place.offset)
        path = place.document.uri.removeprefix("file:///").partition("/")[2]
        about = {"path": path, "repo": self._repo, "client": self._client}
        body = {"prompt": prefix, "suffix": suffix, "max_tokens": 64, "temperature": 0, "homespun": about}
        return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")


def _said(answer: Answer) -> tuple[str, str | None]:
    """The text, "" where there is nothing to see, and the completion's name."""
    if answer.status != OK:
        return "", None
    reply = json.loads(answer.content)
    text = reply["choices"][0]["text"]
    return text if text.strip() else "", reply["id"]
