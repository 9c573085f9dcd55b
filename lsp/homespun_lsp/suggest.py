"""When to ask the server and when not: one request per document at a time, none for text typed as suggested."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from homespun_lsp.context import Place, plain_line_ends
from homespun_lsp.documents import Document


@dataclass(frozen=True, slots=True)
class Suggestion:
    text: str
    offset: int
    completion: str

    def rest(self, text: str, offset: int) -> str:
        """What is left to suggest at `offset` of `text`; empty when it was typed out, or something else was typed."""
        unchanged = text[: self.offset] == self.text[: self.offset] and text[offset:] == self.text[self.offset :]
        if offset < self.offset or not unchanged:
            return ""
        typed = plain_line_ends(text[self.offset : offset])
        return self.completion[len(typed) :] if self.completion.startswith(typed) else ""


@dataclass(slots=True)
class _Desk:
    """The state of one document."""

    suggestion: Suggestion | None = None
    place: Place | None = None
    flight: asyncio.Task[str] | None = None
    """The request under way for `place`, or the last one."""
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    """A cancelled request holds it until its connection is closed."""


class Suggester:
    def __init__(self, fetch: Callable[[Place], Awaitable[str]], current: Callable[[str], Document | None]) -> None:
        """`fetch` asks the server; `current` gives the text of a document as it is by now."""
        self._fetch = fetch
        self._current = current
        self._desks: dict[str, _Desk] = {}

    async def suggest(self, place: Place, *, wait_ms: int, deadline_ms: int | None = None) -> str | None:
        """The text to insert, empty for none; None when a newer request took over or the deadline passed.

        After a deadline the request goes on, and its answer serves the next keystroke if that agrees with it.
        Cancelling cancels the request to the server.
        """
        desk = self._desks.setdefault(place.document.uri, _Desk())
        if desk.suggestion and (rest := desk.suggestion.rest(place.text, place.offset)):
            _cancel(desk)
            return rest
        flight = self._join_or_start(desk, place, wait_ms)
        try:
            await asyncio.wait({flight}, timeout=None if deadline_ms is None else deadline_ms / 1000)
        except asyncio.CancelledError:
            flight.cancel()
            raise
        if not flight.done() or flight.cancelled():
            return None
        completion = flight.result()
        return completion if self._still_fits(place, completion) else None

    def forget(self, uri: str) -> None:
        desk = self._desks.pop(uri, None)
        if desk is not None:
            _cancel(desk)

    def forget_all(self) -> None:
        for uri in list(self._desks):
            self.forget(uri)

    def _join_or_start(self, desk: _Desk, place: Place, wait_ms: int) -> asyncio.Task[str]:
        """Editors may ask for ghost text and for the menu at one place: that is one request."""
        if desk.flight is not None and not desk.flight.done() and desk.place == place:
            return desk.flight
        _cancel(desk)
        desk.place = place
        desk.flight = asyncio.create_task(self._fly(desk, place, wait_ms))
        return desk.flight

    async def _fly(self, desk: _Desk, place: Place, wait_ms: int) -> str:
        await asyncio.sleep(wait_ms / 1000)
        async with desk.turn:
            completion = await self._fetch(place)
        desk.suggestion = Suggestion(place.text, place.offset, completion) if completion else None
        return completion

    def _still_fits(self, place: Place, completion: str) -> bool:
        """Neovim applies late answers to a text that has changed; they must at least agree with what was typed."""
        now = self._current(place.document.uri)
        if now is None or not completion:
            return now is not None
        if now.text == place.document.text:
            return True
        offset = place.offset + len(now.text) - len(place.text)
        return bool(Suggestion(place.text, place.offset, completion).rest(now.text, offset))


def _cancel(desk: _Desk) -> None:
    if desk.flight is not None:
        desk.flight.cancel()
