"""How often somebody may try: guessing is slow, for each of many and for all of them together."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable

_MAX_KEYS = 10_000
_ALL = 30


class Throttle:
    """So many times in a window, for each key and, thirty times as often, for all keys.

    Memory is bounded: the keys that were used least recently are forgotten, and what holds for all still holds.
    """

    def __init__(self, number: int, window_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._number, self._window_s, self._clock = number, window_s, clock
        self._used: OrderedDict[str | None, tuple[float, int]] = OrderedDict()
        self._lock = threading.Lock()

    def allows(self, key: str) -> bool:
        """Counts, unless it says no."""
        with self._lock:
            own, all = self._count(key), self._count(None)
            if own >= self._number or all >= _ALL * self._number:
                return False
            self._add(key, own)
            self._add(None, all)
            while len(self._used) > _MAX_KEYS:
                self._used.popitem(last=False)
            return True

    def _count(self, key: str | None) -> int:
        start, number = self._used.get(key, (float("-inf"), 0))
        return number if self._clock() - start < self._window_s else 0

    def _add(self, key: str | None, before: int) -> None:
        start = self._used[key][0] if before else self._clock()
        self._used[key] = start, before + 1
        self._used.move_to_end(key)
