"""Answers of the memory, of a request under way, or of a new one: one request for a document at a time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from homespun_core.types import Trigger
from homespun_lsp.context import Place
from homespun_lsp.documents import Document
from homespun_lsp.pace import Pace, patience_ms
from homespun_lsp.suggestions import Memory, Suggestion, typed_since

Fetch = Callable[[Place, Trigger], Awaitable[Suggestion]]

_LINGER_S = 0.15
"""Editors cancel a request at a key and ask again a moment later (VS Code 50 ms): it may answer that, too."""
_AHEAD_AFTER_S = 0.25
"""A suggestion that was there for less isn't accepted, as nobody can have read it."""


@dataclass(slots=True, kw_only=True)
class _Flight:
    """A request to the server."""

    place: Place
    trigger: Trigger
    since: float
    task: asyncio.Task[Suggestion]
    end: asyncio.TimerHandle | None = None
    """When it is cancelled unless somebody wants it."""
    is_cancelled: bool = False
    """Once: cancelled again while it closes its connection, it would leave it open."""

    @property
    def is_under_way(self) -> bool:
        return not (self.is_cancelled or self.task.done())

    def serves(self, place: Place) -> bool:
        """Whether its answer may begin with what was typed since."""
        mine = self.place
        return self.is_under_way and typed_since(mine.text, mine.offset, place.text, place.offset) is not None

    def has_asked_about(self, place: Place) -> bool:
        """Or is about to; where it had no answer, asking again at each key wouldn't bring one."""
        return not self.is_cancelled and (self.place.text, self.place.offset) == (place.text, place.offset)

    def keep(self) -> None:
        if self.end is not None:
            self.end.cancel()
            self.end = None

    def cancel_soon(self) -> None:
        self.end = self.end or asyncio.get_running_loop().call_later(_LINGER_S, self.cancel)

    def cancel(self) -> None:
        self.keep()
        if self.is_under_way:
            self.is_cancelled = True
            self.task.cancel()


@dataclass(slots=True)
class _Ask:
    """What the editor wants to know. It may ask for ghost text and for the menu at one place: that is one."""

    place: Place
    task: asyncio.Task[Suggestion]
    num_waiting: int = 0


@dataclass(slots=True)
class _Desk:
    """The state of one document."""

    memory: Memory = field(default_factory=Memory)
    ask: _Ask | None = None
    flight: _Flight | None = None
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    """A cancelled request holds it until its connection is closed."""

    def ground(self) -> None:
        if self.flight is not None:
            self.flight.cancel()

    def clear(self) -> None:
        if self.ask is not None:
            self.ask.task.cancel()
        self.ground()


class Suggester:
    def __init__(self, fetch: Fetch, current: Callable[[str], Document | None], pace: Pace) -> None:
        """`fetch` asks the server; `current` gives the text of a document as it is by now."""
        self._fetch = fetch
        self._current = current
        self._pace = pace
        self._desks: dict[str, _Desk] = {}

    async def suggest(
        self, place: Place, *, wait_ms: float, deadline_ms: int | None = None, trigger: Trigger = "typed"
    ) -> Suggestion | None:
        """None when a newer request took over or the deadline passed.

        After a deadline the request goes on, and its answer serves the next keystroke if that agrees with it.
        Cancelling cancels the request to the server, unless it is wanted again at once.
        """
        if self._current(place.document.uri) is None:  # closed while it was looked at whether to ask
            return None
        desk = self._desks.setdefault(place.document.uri, _Desk())
        if found := self._recall(desk, place):
            return found
        ask = self._join_or_ask(desk, place, wait_ms, trigger)
        ask.num_waiting += 1
        try:
            await asyncio.wait({ask.task}, timeout=None if deadline_ms is None else deadline_ms / 1000)
        except asyncio.CancelledError:
            if ask.num_waiting == 1:
                self._leave(desk, ask)
            raise
        finally:
            ask.num_waiting -= 1
        if not ask.task.done() or ask.task.cancelled():
            return None
        return ask.task.result() if self._still_fits(place, ask.task.result()) else None

    def knows(self, place: Place) -> bool:
        """Whether that could be answered without asking."""
        desk = self._desks.get(place.document.uri)
        return desk is not None and desk.memory.find(place.text, place.offset) is not None

    def look_ahead(self, place: Place) -> None:
        """Asks for what will be wanted there if nothing else is; any other request ends it."""
        desk = self._desks.get(place.document.uri)
        if desk is None or self.knows(place):
            return
        if desk.flight is None or not desk.flight.has_asked_about(place):
            self._start(desk, place, "ahead", _AHEAD_AFTER_S)

    def forget(self, uri: str) -> None:
        desk = self._desks.pop(uri, None)
        if desk is not None:
            desk.clear()

    def forget_all(self) -> None:
        for uri in list(self._desks):
            self.forget(uri)

    def _recall(self, desk: _Desk, place: Place) -> Suggestion | None:
        """What was asked for meanwhile isn't wanted any more; what follows after this still may be."""
        found = desk.memory.find(place.text, place.offset)
        if found is not None:
            if desk.ask is not None:
                desk.ask.task.cancel()
            if desk.flight is not None and desk.flight.trigger != "ahead":
                desk.ground()
        return found

    def _join_or_ask(self, desk: _Desk, place: Place, wait_ms: float, trigger: Trigger) -> _Ask:
        if desk.ask is not None and not desk.ask.task.done():
            if desk.ask.place == place:
                return desk.ask
            desk.ask.task.cancel()
        desk.ask = _Ask(place, asyncio.create_task(self._answer(desk, place, wait_ms, trigger)))
        return desk.ask

    def _leave(self, desk: _Desk, ask: _Ask) -> None:
        if desk.ask is not ask:
            return  # a newer one decides
        ask.task.cancel()
        if desk.flight is not None:
            desk.flight.cancel_soon()

    async def _answer(self, desk: _Desk, place: Place, wait_ms: float, trigger: Trigger) -> Suggestion:
        ready = time.monotonic() + wait_ms / 1000
        if desk.flight is not None and desk.flight.serves(place):
            answer = await self._rebound(desk, desk.flight, place, wait_ms)
            if answer is not None:
                return answer
        desk.ground()
        await asyncio.sleep(max(0.0, ready - time.monotonic()))
        flight = self._start(desk, place, trigger)
        await asyncio.wait({flight.task})  # which outlives us: see `_leave`
        return await flight.task

    async def _rebound(self, desk: _Desk, flight: _Flight, place: Place, wait_ms: float) -> Suggestion | None:
        """The answer of a request made for an earlier keystroke, if it comes soon and begins with what was typed."""
        flight.keep()
        is_same = flight.place == place and flight.trigger != "ahead"
        age_ms = (time.monotonic() - flight.since) * 1e3
        patience = None if is_same else patience_ms(age_ms, self._pace.answer_ms, wait_ms) / 1e3
        await asyncio.wait({flight.task}, timeout=patience)
        if flight.is_under_way or flight.task.cancelled():
            return None
        return flight.task.result() if is_same else desk.memory.find(place.text, place.offset)

    def _start(self, desk: _Desk, place: Place, trigger: Trigger, after_s: float = 0.0) -> _Flight:
        desk.ground()
        task = asyncio.create_task(self._fly(desk, place, trigger, after_s))
        desk.flight = _Flight(place=place, trigger=trigger, since=time.monotonic() + after_s, task=task)
        return desk.flight

    async def _fly(self, desk: _Desk, place: Place, trigger: Trigger, after_s: float) -> Suggestion:
        await asyncio.sleep(after_s)
        async with desk.turn:
            began = time.monotonic()
            suggestion = await self._fetch(place, trigger)
        if trigger != "ahead" and (suggestion.made or suggestion.completion):  # else nobody may have been asked
            self._pace.answered((time.monotonic() - began) * 1e3)
        if suggestion.completion:
            desk.memory.add(suggestion)
        return suggestion

    def _still_fits(self, place: Place, suggestion: Suggestion) -> bool:
        """Neovim applies late answers to a text that has changed; they must at least agree with what was typed."""
        now = self._current(place.document.uri)
        if now is None or not suggestion.completion:
            return now is not None
        if now.text == place.document.text:
            return True
        offset = place.offset + len(now.text) - len(place.text)
        return suggestion.at(now.text, offset) is not None
