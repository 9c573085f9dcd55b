"""How fast somebody types and the server answers, and what follows: how long to wait before asking. Pure but for the
record of both."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from statistics import median

_MAX_GAP_MS = 1_000.0
"""Longer than this is a pause, not typing."""
_USUAL_GAP_MS = 150.0
"""Of somebody who writes 80 words a minute; until we know better."""
_MIN_GAPS = 5
_MAX_WAIT_MS = 300.0
_FIRST_WAIT_MS = 60.0
"""Until the server has answered once."""
_PAUSE = 1.25
"""A gap so many times the usual one is a pause: 80 % of the gaps within a word are shorter."""


def debounce_ms(gap_ms: float, answer_ms: float | None) -> float:
    """How long to wait after a key before asking.

    A server that answers within half of the usual gap between two keys is asked at each: the answer is there before the
    next key, so nothing was asked in vain. One that takes as long as the gap or longer is asked in pauses only, or it
    would work on what nobody looks at any more. In between, in proportion.
    """
    if answer_ms is None:
        return _FIRST_WAIT_MS
    slowness = min(1.0, max(0.0, 2 * answer_ms / gap_ms - 1))
    return slowness * min(_MAX_WAIT_MS, _PAUSE * gap_ms)


def patience_ms(age_ms: float, answer_ms: float | None, wait_ms: float) -> float:
    """How long to wait for a request that is `age_ms` old and may answer what was typed since.

    Until the new one would be sent anyway (`wait_ms`); and where half of its time is over by then, for the rest of it,
    up to twice the usual time.
    """
    if answer_ms is None or age_ms + wait_ms < answer_ms / 2:
        return wait_ms
    return max(wait_ms, 2 * answer_ms - age_ms)


class Pace:
    def __init__(self) -> None:
        self._last_key: float | None = None
        self._gaps_ms: deque[float] = deque(maxlen=50)
        self._answers_ms: deque[float] = deque(maxlen=9)

    def key(self, now: float) -> None:
        """`now` in seconds of any clock, always the same one."""
        if self._last_key is not None and (gap_ms := (now - self._last_key) * 1e3) <= _MAX_GAP_MS:
            self._gaps_ms.append(gap_ms)
        self._last_key = now

    def answered(self, ms: float) -> None:
        self._answers_ms.append(ms)

    @property
    def gap_ms(self) -> float:
        return max(1.0, median(self._gaps_ms)) if len(self._gaps_ms) >= _MIN_GAPS else _USUAL_GAP_MS

    @property
    def answer_ms(self) -> float | None:
        return _median(self._answers_ms)

    def wait_ms(self, now: float, fixed_ms: int | None) -> float:
        """What is left to wait. It counts from the last key: some editors wait by themselves before they ask us."""
        wanted = debounce_ms(self.gap_ms, self.answer_ms) if fixed_ms is None else fixed_ms
        since_ms = (now - self._last_key) * 1e3 if self._last_key is not None else 0.0
        return max(0.0, wanted - since_ms)


def _median(values: Sequence[float]) -> float | None:
    return median(values) if values else None
