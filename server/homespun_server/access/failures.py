"""Tokens that are nobody's, shown again and again: each is told to wait longer, and a burst is noted. Pure.

Whoever shows a good token is never kept waiting by this, whatever others at the same address do: it is looked up first.
So it slows nobody down who could guess one (256 random bits see to that); it has editors with an old token, and whoever
knocks, come back later, and tells the admins.

A whole company may have one address. So a token waits for its own repetitions, and of an address only the different
tokens count: somebody whose token has ended is told so at once, whatever an editor in the next room repeats.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from dataclasses import dataclass

FREE_OF_TOKEN, FREE_OF_ADDRESS = 5, 100
_BURST = 20
_LONGEST_S = 60.0
_FORGOTTEN_S = 600.0
_MAX_KEYS = 10_000
"""0.3 kB each; the ones that failed least lately are forgotten first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    wait_s: int
    """0: nothing but a plain refusal."""
    is_of_address: bool = False
    """Whether the wait is for the many different tokens of its address, not for this one's repetitions."""
    burst: int | None = None
    """So many different ones have come from this address, which is worth noting; None: nothing new."""


@dataclass(slots=True)
class _Count:
    number: int = 0
    at: float = -math.inf
    until: float = -math.inf


class Failures:
    def __init__(self) -> None:
        self._counts: OrderedDict[str, _Count] = OrderedDict()

    def failed(self, address: str, token: str, now: float) -> Failed:
        """`token`: what tells it apart, nothing that is worth keeping. `now` on a clock that never goes back."""
        key = f"{address} {token}"
        is_new = key not in self._counts
        of_token = self._failed(key, FREE_OF_TOKEN, now)
        if not is_new:
            return Failed(wait_s=_until(of_token, now))
        of_address = self._failed(address, FREE_OF_ADDRESS, now)
        is_noted = of_address.at == now and _is_worth_noting(of_address.number)
        return Failed(wait_s=_until(of_address, now), is_of_address=True, burst=of_address.number if is_noted else None)

    def _failed(self, key: str, free: int, now: float) -> _Count:
        """What comes before a wait is over isn't counted, or one that never stops would wait for ever."""
        count = self._counts.setdefault(key, _Count())
        self._counts.move_to_end(key)
        if len(self._counts) > _MAX_KEYS:
            self._counts.popitem(last=False)
        if now - count.at > _FORGOTTEN_S:
            count.number = 0
        if now >= count.until:
            count.number, count.at = count.number + 1, now
            if count.number > free:
                count.until = now + min(_LONGEST_S, 2.0 ** (count.number - free - 1))
        return count


def _until(count: _Count, now: float) -> int:
    return math.ceil(max(0.0, count.until - now))


def _is_worth_noting(number: int) -> bool:
    """The 21st, then the 32nd, the 64th and so on."""
    return number == _BURST + 1 or (number > _BURST and number & (number - 1) == 0)
