"""How long a server that is in trouble is left alone. Pure but for chance and the clock."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field

_FIRST_S = 1.0
_LONGEST_S = 60.0
_JITTER = 0.25
"""Of a whole office whose server comes back, not all ask in the same moment."""


@dataclass(slots=True)
class Backoff:
    clock: Callable[[], float] = time.monotonic
    chance: Callable[[], float] = random.random
    num_failures: int = 0
    _until: float = field(default=0.0)

    @property
    def wait_s(self) -> float:
        """Not at all before the first failure."""
        return max(0.0, self._until - self.clock())

    def fail(self, at_least_s: float = 0.0) -> None:
        """`at_least_s` is what the server asked for; more than a minute isn't granted."""
        self.num_failures += 1
        doubled = min(_LONGEST_S, _FIRST_S * 2.0 ** min(self.num_failures - 1, 16))
        jittered = doubled * (1 + _JITTER * (2 * self.chance() - 1))
        self._until = self.clock() + max(jittered, min(at_least_s, _LONGEST_S))

    def succeed(self) -> None:
        self.num_failures, self._until = 0, 0.0
