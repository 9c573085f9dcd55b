"""Where somebody may begin to type: has the server compute what stands there before the first key."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

from homespun_lsp.context import Place

REST_S = 0.3
"""A cursor that moves on sooner was on its way."""
_FRESH_S = 60.0
"""The server may have forgotten what it computed, for others."""


class Preparer:
    """One place at a time; the next one ends it, and so does a key."""

    def __init__(self, prepare: Callable[[Place], Awaitable[None]]) -> None:
        self._prepare = prepare
        self._task: asyncio.Task[None] | None = None
        self._place: Place | None = None
        self._at = 0.0

    def at(self, place: Place) -> None:
        """The cursor is there. Nothing happens while it moves on, nor where it was a moment ago."""
        if self._is_same(place) and time.monotonic() - self._at < _FRESH_S:
            return
        self.stop()
        self._place, self._at = place, time.monotonic()
        self._task = asyncio.create_task(self._rest(place))

    def stop(self) -> None:
        """What is finished stays so."""
        if self._task is not None and not self._task.done():
            self._task.cancel()
            self._place = None

    def left(self, uri: str) -> None:
        if self._place is not None and self._place.document.uri == uri:
            self.stop()
            self._place = None

    async def _rest(self, place: Place) -> None:
        await asyncio.sleep(REST_S)
        await self._prepare(place)

    def _is_same(self, place: Place) -> bool:
        here = self._place
        if here is None or here.document.uri != place.document.uri:
            return False
        return (here.text, here.offset) == (place.text, place.offset)
