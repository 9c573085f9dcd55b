"""Keys and values of earlier requests, kept so that the next keystroke computes only what is new.

A slot belongs to the weights that filled it: keys and values made under one adapter are wrong under another, and
servers that key them by a name or by the tokens alone have mixed adapters up (llama.cpp #26207, vLLM #42125).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from transformers.cache_utils import Cache, CacheLayerMixin

_GROWTH = 256
_SHARED_HALF = 0.5
"""A prompt that continues at least this part of a slot takes the slot over; otherwise it forks, so that two open files
which share a header don't evict each other at every change of window."""
_WORTH_COPYING = 16


class SlotLayer(CacheLayerMixin):
    """One layer's keys and values in buffers that are written in place: `torch.cat` at every step would copy all.

    Layers with sliding windows keep everything too (the model's own mask hides what is outside): so cropping is exact.
    """

    is_sliding = False
    is_croppable = True

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.length = 0
        self._rows: tuple[torch.Tensor, torch.Tensor] | None = None
        """Keys and values: (1, heads, capacity, head size)."""

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        self._rows = (_empty_like(key_states, 0), _empty_like(value_states, 0))
        self.is_initialized = True

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        start, end = self.length, self.length + key_states.shape[2]
        keys, values = self._reserved(end, key_states, value_states)
        keys[:, :, start:end] = key_states
        values[:, :, start:end] = value_states
        self.length = end
        return keys[:, :, :end], values[:, :, :end]

    @torch.inference_mode()
    def copy_rows(self, source: SlotLayer, length: int) -> None:
        self.length = 0
        if source._rows is not None:
            keys, values = source._rows
            self.update(keys[:, :, :length], values[:, :, :length])

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.length + query_length, 0

    def get_seq_length(self) -> int:
        return self.length

    def get_max_length(self) -> int:
        return -1

    def _reserved(self, length: int, keys: torch.Tensor, values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The buffers, with room for `length` rows like those of `keys` and `values`."""
        if self._rows is None:
            self.lazy_initialization(keys, values)
        assert self._rows is not None
        capacity = self._rows[0].shape[2]
        if length > capacity:
            grown = -(-max(length, capacity + capacity // 2) // _GROWTH) * _GROWTH
            self._rows = (self._enlarged(self._rows[0], grown), self._enlarged(self._rows[1], grown))
        return self._rows

    def _enlarged(self, old: torch.Tensor, capacity: int) -> torch.Tensor:
        new = _empty_like(old, capacity)
        new[:, :, : self.length] = old[:, :, : self.length]
        return new


class Slot:
    """Keys and values of one token sequence under one set of weights."""

    def __init__(self, num_layers: int) -> None:
        self.layers = [SlotLayer() for _ in range(num_layers)]
        self.cache = Cache(layers=list(self.layers))
        self.weights: object | None = None
        self.ids: list[int] = []
        """What the rows of the cache were computed from."""
        self.last_used = 0

    def shared_with(self, weights: object, ids: Sequence[int]) -> int:
        """How many leading ids it holds already."""
        if self.weights is not weights:
            return 0
        return _common_start(self.ids, ids)

    def crop(self, length: int) -> None:
        del self.ids[length:]
        for layer in self.layers:
            layer.length = min(layer.length, length)

    def forget(self) -> None:
        self.weights = None
        self.crop(0)

    def become_copy_of(self, other: Slot, length: int) -> None:
        self.weights, self.ids = other.weights, other.ids[:length]
        for mine, theirs in zip(self.layers, other.layers, strict=True):
            mine.copy_rows(theirs, length)


class SlotPool:
    """A few slots, the least recently used given away. Not thread-safe: it belongs to the engine's thread."""

    def __init__(self, num_slots: int, num_layers: int) -> None:
        self.slots = [Slot(num_layers) for _ in range(num_slots)]
        self._clock = 0

    def acquire(self, weights: object, ids: Sequence[int]) -> Slot:
        """A slot that holds the longest known beginning of `ids`, the last id never included: its logits are wanted."""
        best = max(self.slots, key=lambda slot: slot.shared_with(weights, ids))
        shared = min(best.shared_with(weights, ids), len(ids) - 1)
        slot = best
        if shared < _SHARED_HALF * min(len(best.ids), len(ids)) or best.weights is not weights:
            slot = min(self.slots, key=lambda s: s.last_used)
            if slot is not best and shared >= _WORTH_COPYING:
                slot.become_copy_of(best, shared)
            elif slot is not best:
                shared = 0
        slot.crop(shared)
        return self._given(slot, weights)

    def acquire_empty(self, weights: object) -> Slot:
        """A slot with nothing in it: what is computed there doesn't depend on what was there before, bit for bit."""
        slot = min(self.slots, key=lambda s: s.last_used)
        slot.crop(0)
        return self._given(slot, weights)

    def _given(self, slot: Slot, weights: object) -> Slot:
        slot.weights = weights
        self._clock += 1
        slot.last_used = self._clock
        return slot

    def drop(self, weights: object) -> None:
        for slot in self.slots:
            if slot.weights is weights:
                slot.forget()


def _common_start(a: Sequence[int], b: Sequence[int]) -> int:
    """Length of the longest common prefix, by halving: slices compare at C speed, a loop over 1,000 ids does not."""
    low, high = 0, min(len(a), len(b))
    while low < high:
        middle = (low + high + 1) // 2
        if a[low:middle] == b[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def _empty_like(rows: torch.Tensor, capacity: int) -> torch.Tensor:
    return rows.new_empty(*rows.shape[:2], capacity, rows.shape[3])
