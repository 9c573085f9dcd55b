"""Keys and values of earlier requests, kept so that the next keystroke computes only what is new.

A slot belongs to the weights that filled it: keys and values made under one adapter are wrong under another, and
servers that key them by a name or by the tokens alone have mixed adapters up (llama.cpp #26207, vLLM #42125). It
belongs to a tenant too, so that the time an answer takes tells nothing about what others have asked.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from homespun_server.engine.decoders.protocol import Decoder, Kv

_SHARED_HALF = 0.5
"""A prompt that continues at least this part of a slot takes the slot over; otherwise it forks, so that two open files
which share a header don't evict each other at every change of window."""
_MAX_DROPPED = 128
"""A suggestion and what was typed of it are fewer rows. More of them stay: a window that moved on by some lines moves
back when these are deleted, and what was cut out comes back with an undo."""
_WORTH_COPYING = 16
_MAX_SLOTS = 64
"""Each is compared with every new prompt, 2 us each."""


@dataclass(slots=True, eq=False)
class Slot:
    """Rows of one token sequence. Whoever holds it may change it; others may copy from it between two steps."""

    kv: Kv
    weights: object
    tenant: str
    ids: list[int] = field(default_factory=list)
    """What the rows were computed from."""
    ahead: list[int] = field(default_factory=list)
    """What came after `ids` last time; no rows of it."""
    is_held: bool = True
    last_used: int = 0

    def crop(self, length: int) -> None:
        if length < len(self.ids):
            del self.ids[length:]
            self.kv.crop(length)


@dataclass(frozen=True, slots=True)
class Lease:
    slot: Slot
    remembered: list[int]
    """What followed these ids last time. A guess: decoding may have been asked for under other conditions."""


@dataclass(frozen=True, slots=True)
class _Match:
    slot: Slot | None
    num_rows: int
    num_known: int


class SlotPool:
    """As many slots as fit in `max_bytes`, the least recently used given up first. Belongs to the engine's thread."""

    def __init__(self, max_bytes: int) -> None:
        self.slots: list[Slot] = []
        self._max_bytes = max_bytes
        self._clock = 0

    @property
    def num_bytes(self) -> int:
        return sum(slot.kv.num_bytes for slot in self.slots)

    def acquire(self, decoder: Decoder, tenant: str, ids: list[int], num_wanted: int) -> Lease:
        """A slot with the longest known beginning of `ids`, of which the last `num_wanted` are left to compute.

        It is the caller's until `release` or `forget`.
        """
        match = self._best(decoder, tenant, ids)
        num_rows = min(match.num_rows, len(ids) - num_wanted)
        known = [*match.slot.ids, *match.slot.ahead] if match.slot is not None else []
        remembered = known[len(ids) :] if match.num_known == len(ids) else []
        if match.slot is not None and _is_continued(match.slot, num_rows, len(ids)):
            slot = match.slot
            slot.is_held = True
            slot.crop(num_rows)
        else:
            slot = Slot(decoder.new_kv(), decoder, tenant)
            if match.slot is not None and num_rows >= _WORTH_COPYING:
                slot.kv.copy_from(match.slot.kv, num_rows)
                slot.ids = ids[:num_rows]
                self._touch(match.slot)
            self.slots.append(slot)
        slot.ahead = []
        self._touch(slot)
        return Lease(slot, remembered)

    def holds(self, decoder: Decoder, tenant: str, ids: list[int]) -> bool:
        """Whether there is nothing left to compute for `ids`; if so, they count as used now."""
        match = self._best(decoder, tenant, ids)
        if match.slot is None or match.num_rows < len(ids):
            return False
        self._touch(match.slot)
        return True

    def release(self, slot: Slot, ahead: list[int]) -> None:
        slot.ahead, slot.is_held = ahead, False
        self._touch(slot)
        self.shrink(0)

    def forget(self, slot: Slot) -> None:
        self.slots.remove(slot)

    def drop(self, weights: object) -> None:
        """Forget what nobody holds of these weights."""
        self.slots = [slot for slot in self.slots if slot.weights is not weights or slot.is_held]

    def shrink(self, reserved_bytes: int) -> None:
        """Give up slots that nobody holds, until there are `reserved_bytes` to spare."""
        excess = self.num_bytes + reserved_bytes - self._max_bytes
        idle = sorted((slot for slot in self.slots if not slot.is_held), key=lambda slot: slot.last_used)
        for slot in idle:
            if excess <= 0 and len(self.slots) <= _MAX_SLOTS:
                return
            self.slots.remove(slot)
            excess -= slot.kv.num_bytes

    def _best(self, decoder: Decoder, tenant: str, ids: list[int]) -> _Match:
        best, best_worth = _Match(None, 0, 0), (-1, -1)
        for slot in self.slots:
            if slot.weights is not decoder or slot.tenant != tenant:
                continue
            num_rows = num_known = common_start(slot.ids, ids)
            if num_rows == len(slot.ids) and slot.ahead:
                num_known += common_start(slot.ahead, ids[num_rows:])
            # What somebody holds has to be copied, so another slot that has nearly as much goes before it.
            worth = (num_rows - _WORTH_COPYING * slot.is_held, num_known)
            if best.slot is None or worth > best_worth:
                best, best_worth = _Match(slot, num_rows, num_known), worth
        return best

    def _touch(self, slot: Slot) -> None:
        self._clock += 1
        slot.last_used = self._clock


def _is_continued(slot: Slot, num_rows: int, length: int) -> bool:
    num_dropped = len(slot.ids) - num_rows
    return not slot.is_held and num_dropped <= _MAX_DROPPED and num_rows >= _SHARED_HALF * min(len(slot.ids), length)


def common_start(a: Sequence[int], b: Sequence[int]) -> int:
    """Length of the longest common prefix, by halving: slices compare at C speed, a loop over 1,000 ids does not."""
    low, high = 0, min(len(a), len(b))
    while low < high:
        middle = (low + high + 1) // 2
        if a[low:middle] == b[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low
