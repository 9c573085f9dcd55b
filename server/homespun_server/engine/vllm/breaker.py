"""When a server that fails is left alone, and when it is tried again. Pure: the clock is an argument."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

BreakerState = Literal["closed", "open", "half-open"]

_THRESHOLD = 3
"""Failures in a row; one alone may be the request's, or a connection closed at the wrong moment."""
_FIRST_WAIT_S, _LONGEST_WAIT_S = 1.0, 30.0


@dataclass(frozen=True, slots=True)
class Breaker:
    """Closed: requests pass. Open: none. Half-open: one passes, and what becomes of it decides."""

    failures: int = 0
    """In a row."""
    retry_at: float | None = None
    """None while closed."""
    is_trying: bool = False

    def state(self, now: float) -> BreakerState:
        if self.retry_at is None:
            return "closed"
        return "half-open" if now >= self.retry_at else "open"

    def allows(self, now: float) -> bool:
        state = self.state(now)
        return state == "closed" or (state == "half-open" and not self.is_trying)

    def began(self, now: float) -> Breaker:
        assert self.allows(now)
        return replace(self, is_trying=self.retry_at is not None)

    def succeeded(self) -> Breaker:
        return Breaker()

    def failed(self, now: float) -> Breaker:
        """Waits twice as long after each failed trial. Requests that began before it opened don't prolong the wait."""
        failures = self.failures + 1
        if failures < _THRESHOLD:
            return Breaker(failures)
        if self.state(now) == "open" and not self.is_trying:
            return self
        wait = min(_FIRST_WAIT_S * 2.0 ** (failures - _THRESHOLD), _LONGEST_WAIT_S)
        return Breaker(failures, now + wait)

    def abandoned(self) -> Breaker:
        """The request ended for a reason of its own and says nothing about the server."""
        return replace(self, is_trying=False)
