"""What the disk said lately: a keystroke waits for it the first time only."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

_FRESH_S = 10.0
_MAX_KEYS = 500

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


class Lately(Generic[Key, Value]):
    def __init__(self, read: Callable[[Key], Value], clock: Callable[[], float] = time.monotonic) -> None:
        """`read` runs in a thread. What it raises is raised for whoever waits for it."""
        self._read = read
        self._clock = clock
        self._known: dict[Key, tuple[Value, float]] = {}
        self._reading: dict[Key, asyncio.Task[Value]] = {}

    async def get(self, key: Key) -> Value:
        """The last value, which after some seconds is read again for whoever asks next."""
        known = self._known.get(key)
        if known is None or self._clock() - known[1] > _FRESH_S:
            reading = self._reading.get(key) or self._begin(key)
            if known is None:
                return await asyncio.shield(reading)
        return known[0]

    def _begin(self, key: Key) -> asyncio.Task[Value]:
        task = self._reading[key] = asyncio.create_task(self._renew(key))
        return task

    async def _renew(self, key: Key) -> Value:
        try:
            value = await asyncio.to_thread(self._read, key)
        finally:
            self._reading.pop(key, None)
        if len(self._known) >= _MAX_KEYS:
            self._known.clear()
        self._known[key] = value, self._clock()
        return value
