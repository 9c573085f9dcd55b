"""Whatever else transformers can load: one segment at a time, chains only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from transformers.cache_utils import Cache, CacheLayerMixin, DynamicCache

from homespun_server.engine.decoders.packing import PackedLinear, will_pack
from homespun_server.engine.decoders.protocol import ModelFacts, Segment

_GROWTH = 256
_CROPPABLE_LAYERS = {"full_attention", "sliding_attention"}


class SlotLayer(CacheLayerMixin):
    """One layer's keys and values in buffers that are written in place: `torch.cat` at every step would copy all.

    Layers with sliding windows keep everything too (the model's own mask hides what is outside): so cropping is exact.
    """

    is_sliding = False
    is_croppable = True

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.length = 0
        self.rows: tuple[torch.Tensor, torch.Tensor] | None = None
        """Keys and values: (1, heads, capacity, head size)."""

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        self.rows = (_empty_like(key_states, 0), _empty_like(value_states, 0))
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

    def copy_from(self, source: SlotLayer, length: int) -> None:
        self.length = 0
        if source.rows is not None:
            keys, values = source.rows
            self.update(keys[:, :, :length], values[:, :, :length])

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.length + query_length, 0

    def get_seq_length(self) -> int:
        return self.length

    def get_max_length(self) -> int:
        return -1

    def _reserved(self, length: int, keys: torch.Tensor, values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The buffers, with room for `length` rows like those of `keys` and `values`."""
        if self.rows is None:
            self.lazy_initialization(keys, values)
        assert self.rows is not None
        capacity = self.rows[0].shape[2]
        if length > capacity:
            grown = -(-max(length, capacity + capacity // 2) // _GROWTH) * _GROWTH
            self.rows = (self._enlarged(self.rows[0], grown), self._enlarged(self.rows[1], grown))
        return self.rows

    def _enlarged(self, old: torch.Tensor, capacity: int) -> torch.Tensor:
        new = _empty_like(old, capacity)
        new[:, :, : self.length] = old[:, :, : self.length]
        return new


class HfKv:
    """See `decoder.Kv`. Where `slots` is None the cache is the model's own choice, which can only grow."""

    def __init__(self, cache: Cache, slots: Sequence[SlotLayer] | None) -> None:
        self.cache = cache
        self._slots = slots
        self._length = 0
        self._num_pending = 0

    @property
    def length(self) -> int:
        return self._length

    @property
    def num_bytes(self) -> int:
        return sum(tensor.nbytes for layer in self.cache.layers for tensor in _tensors(vars(layer).values()))

    def keep(self, rows: Sequence[int]) -> None:
        assert len(rows) <= self._num_pending and list(rows) == list(range(len(rows))), "not the start of a chain"
        assert self._slots is not None or len(rows) == self._num_pending, "this model's cache can't forget"
        self._set_length(self._length + len(rows))

    def crop(self, length: int) -> None:
        assert 0 <= length <= self._length
        assert self._slots is not None, "this model's cache can't be cropped"
        self._set_length(length)

    @torch.inference_mode()
    def copy_from(self, other: HfKv, length: int) -> None:
        assert other is not self and length <= other._length
        assert self._slots is not None and other._slots is not None, "this model's cache can't be copied"
        for mine, theirs in zip(self._slots, other._slots, strict=True):
            mine.copy_from(theirs, length)
        self._set_length(length)

    def begin(self, num_ids: int) -> None:
        """So many rows are about to be appended to the cache."""
        assert not self._num_pending, "keep was not called since the last forward"
        self._num_pending = num_ids

    def _set_length(self, length: int) -> None:
        self._length, self._num_pending = length, 0
        for layer in self._slots or ():
            layer.length = min(layer.length, length)


class HfDecoder:
    """See `decoder.Decoder`."""

    def __init__(self, module: Any, facts: ModelFacts, device: torch.device) -> None:
        """`module` is on the device, in the format it will run in; its linear layers are replaced if that is faster."""
        self._module, self._device, self.facts = module, device, facts
        dtype = next(module.parameters()).dtype
        self.num_bytes = sum(parameter.nbytes for parameter in module.parameters())
        if will_pack(device, dtype):
            _pack_linears(module)

    def new_kv(self) -> HfKv:
        if not self.facts.can_crop:
            return HfKv(DynamicCache(config=self._module.config), None)
        slots = [SlotLayer() for _ in range(self.facts.num_layers)]
        return HfKv(Cache(layers=list(slots)), slots)

    @torch.inference_mode()
    def forward(self, batch: Sequence[Segment]) -> list[torch.Tensor]:
        """The segments one after the other: transformers would pad them, and masks of its own differ by model."""
        assert batch and len({id(segment.kv) for segment in batch}) == len(batch)
        return [self._forward(segment) for segment in batch]

    def _forward(self, segment: Segment) -> torch.Tensor:
        ids, kv = segment.ids, segment.kv
        assert isinstance(kv, HfKv) and 1 <= segment.num_rows <= len(ids)
        assert segment.parents is None or list(segment.parents) == list(range(-1, len(ids) - 1)), "chains only"
        assert kv.length + len(ids) <= self.facts.max_context, "longer than the model's context"
        kv.begin(len(ids))
        inputs = torch.tensor([list(ids)], device=self._device)
        out = self._module(input_ids=inputs, past_key_values=kv.cache, use_cache=True, logits_to_keep=segment.num_rows)
        logits: torch.Tensor = out.logits[0].float().cpu()
        return logits


def facts_of(module: Any) -> ModelFacts:
    config = module.config.get_text_config()
    layer_types = set(getattr(config, "layer_types", None) or ())
    return ModelFacts(
        vocab_size=int(module.get_output_embeddings().weight.shape[0]),
        num_layers=int(config.num_hidden_layers),
        max_context=int(getattr(config, "max_position_embeddings", 0) or 1 << 20),
        can_crop=layer_types <= _CROPPABLE_LAYERS and not getattr(module, "_is_stateful", False),
        can_branch=False,
    )


def _pack_linears(module: nn.Module) -> None:
    for parent in list(module.modules()):
        for name, child in list(parent.named_children()):
            if type(child) is nn.Linear:
                setattr(parent, name, PackedLinear(child.weight, child.bias))


def _tensors(values: Any) -> list[torch.Tensor]:
    """Those among an object's values, and those in tuples among them."""
    flat = [item for value in values for item in (value if isinstance(value, tuple) else (value,))]
    return [item for item in flat if isinstance(item, torch.Tensor)]


def _empty_like(rows: torch.Tensor, capacity: int) -> torch.Tensor:
    return rows.new_empty(*rows.shape[:2], capacity, rows.shape[3])
