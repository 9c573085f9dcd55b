"""How often somebody may ask: token buckets, as many as there are askers lately."""

from __future__ import annotations

import math
from collections import OrderedDict
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

    def take(self, key: str, now: float) -> Taken | None:
        """`now` on a clock that never goes back. None without a limit."""
        if self._size <= 0:
            return None
        bucket = self._buckets.setdefault(key, _Bucket(self._size, now))
        self._buckets.move_to_end(key)
        if len(self._buckets) > _MAX_KEYS:
            self._buckets.popitem(last=False)
        bucket.level = min(self._size, bucket.level + (now - bucket.at) * self._rate)
        bucket.at = now
        is_allowed = bucket.level >= 1
        bucket.level -= is_allowed
        return Taken(
            is_allowed=is_allowed,
            limit=self._size,
            remaining=math.floor(bucket.level),
            wait_s=max(0.0, (1 - bucket.level) / self._rate),
            full_s=(self._size - bucket.level) / self._rate,
        )


def tighter(some: Taken | None, other: Taken | None) -> Taken | None:
    """The one that refuses, or else leaves less."""
    both = [taken for taken in (some, other) if taken is not None]
    return min(both, key=lambda taken: (taken.is_allowed, taken.remaining), default=None)
