"""How often somebody may ask: token buckets, as many as there are askers lately."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

_MAX_KEYS = 10_000
"""0.3 kB each. Whoever is forgotten starts with a full bucket; that takes as many askers within a minute."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    is_allowed: bool
    limit: int
    remaining: int
    wait_s: float
    """Until one more is allowed, if this one wasn't."""
    full_s: float
    """Until as many are allowed as after a rest."""


@dataclass(slots=True)
class _Bucket:
    level: float
    at: float


class Limiter:
    """A minute's requests may come at once, then as many as fill up again."""

    def __init__(self, per_minute: int) -> None:
        """0 is no limit."""
        self._size, self._rate = per_minute, per_minute / 60
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()

    def take(self, key: str, now: float, number: int = 1) -> Taken | None:
        """`now` on a clock that never goes back. None without a limit. More than a minute's worth takes a full bucket,
        and what comes next waits until all of it has filled up again."""
        if self._size <= 0:
            return None
        bucket = self._buckets.setdefault(key, _Bucket(self._size, now))
        self._buckets.move_to_end(key)
        if len(self._buckets) > _MAX_KEYS:
            self._buckets.popitem(last=False)
        bucket.level = min(self._size, bucket.level + (now - bucket.at) * self._rate)
        bucket.at = now
        wanted = min(number, max(1, self._size - 1))  # the request itself has taken one before
        is_allowed = bucket.level >= wanted
        bucket.level -= number if is_allowed else 0
        return Taken(
            is_allowed=is_allowed,
            limit=self._size,
            remaining=max(0, math.floor(bucket.level)),
            wait_s=max(0.0, ((1 if is_allowed else wanted) - bucket.level) / self._rate),
            full_s=(self._size - bucket.level) / self._rate,
        )


def tighter(some: Taken | None, other: Taken | None) -> Taken | None:
    """The one that refuses, or else leaves less."""
    both = [taken for taken in (some, other) if taken is not None]
    return min(both, key=lambda taken: (taken.is_allowed, taken.remaining), default=None)


class Tab:
    """What one request has taken: one for itself, more once it is read what it asks for."""

    def __init__(self, take: Callable[[int], Taken | None]) -> None:
        self._take = take
        self.taken: Taken | None = None
        """None without a limit."""

    def add(self, number: int) -> Taken | None:
        """The one that refuses it; None if it is allowed."""
        self.taken = self._take(number)
        return None if self.taken is None or self.taken.is_allowed else self.taken
