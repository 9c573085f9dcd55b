"""Llama-family checkpoints in floating point, on CPU or GPU."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch.nn import functional

from homespun_server.engine.decoders.families import Architecture
from homespun_server.engine.decoders.packing import linear, will_pack
from homespun_server.engine.decoders.protocol import ModelFacts, Segment
from homespun_server.engine.decoders.weights import LayerWeights, Weights

_GROWTH = 256


class TorchKv:
    """See `decoder.Kv`. One buffer holds all layers, so that moving, copying and growing are one operation each."""

    def __init__(self, architecture: Architecture, device: torch.device, dtype: torch.dtype) -> None:
        heads = 2 * architecture.num_kv_heads
        self._rows = torch.empty(architecture.num_layers, heads, 0, architecture.head_dim, device=device, dtype=dtype)
        """(layers, key heads and then value heads, capacity, head size)."""
        self._length = 0
        self._pending: Sequence[int] = ()
        """Parents of the last forward's rows, which stand after the first `length`."""

    @property
    def length(self) -> int:
        return self._length

    @property
    def num_bytes(self) -> int:
        return self._rows.nbytes

    @torch.inference_mode()
    def keep(self, rows: Sequence[int]) -> None:
        assert _is_path(rows, self._pending), "the rows to keep are no path of the last segment"
        if rows and rows[-1] != len(rows) - 1:
            source = (torch.tensor(rows) + self._length).to(self._rows.device, non_blocking=True)
            self._rows[:, :, self._length : self._length + len(rows)] = self._rows.index_select(2, source)
        self._length += len(rows)
        self._pending = ()

    def crop(self, length: int) -> None:
        assert 0 <= length <= self._length
        self._length, self._pending = length, ()

    @torch.inference_mode()
    def copy_from(self, other: TorchKv, length: int) -> None:
        assert other is not self and length <= other._length
        self._length, self._pending = 0, ()
        self._reserve(length)
        self._rows[:, :, :length] = other._rows[:, :, :length]
        self._length = length

    def begin(self, parents: Sequence[int]) -> torch.Tensor:
        """The buffers, with room for rows of these parents after those it has."""
        assert not self._pending, "keep was not called since the last forward"
        self._reserve(self._length + len(parents))
        self._pending = parents
        return self._rows

    def _reserve(self, length: int) -> None:
        layers, heads, capacity, dim = self._rows.shape
        if length > capacity:
            grown = -(-max(length, capacity + capacity // 2) // _GROWTH) * _GROWTH
            rows = self._rows.new_empty(layers, heads, grown, dim)
            rows[:, :, : self._length] = self._rows[:, :, : self._length]
            self._rows = rows


@dataclass(frozen=True, slots=True)
class _Part:
    """A segment's share of a forward."""

    rows: torch.Tensor
    """The buffers of its kv."""
    first: int
    """Its rows among those of the batch: from `first`, so many as there are ids."""
    num_ids: int
    past: int
    masks: dict[int, torch.Tensor | None]
    """By window: what is added to the scores, (ids, past + ids) for each query head that shares a key head, one below
    the other; None where everything may be seen, or by order alone."""
    is_ordered: bool
    """A chain after nothing: a token sees those before it, which the kernels know how to do without a mask."""


class TorchDecoder:
    """See `decoder.Decoder`. Linear layers run over the rows of the whole batch, attention segment by segment."""

    def __init__(self, weights: Weights, device: torch.device, dtype: torch.dtype) -> None:
        a = self._architecture = weights.architecture
        self._device, self._dtype = device, dtype
        self.facts = ModelFacts(
            vocab_size=a.vocab_size,
            num_layers=a.num_layers,
            max_context=a.max_context,
            can_crop=True,
            can_branch=True,
        )
        self._embedding = weights.embedding.to(device=device, dtype=dtype)
        self._layers = [_Layer(a, layer, number, device, dtype) for number, layer in enumerate(weights.layers)]
        self._norm = _Norm(a, weights.norm, weights.norm_bias, device, dtype)
        is_tied = weights.head is weights.embedding
        self._head = linear(self._embedding if is_tied else weights.head, None, device, dtype)
        # Both halves of a head are turned at once: (x1, x2) * (cos, cos) + (x2, x1) * (-sin, sin).
        self._cos = torch.cat((weights.cos, weights.cos), -1).to(device=device, dtype=dtype)
        self._sin = torch.cat((-weights.sin, weights.sin), -1).to(device=device, dtype=dtype)
        is_shared = is_tied and not will_pack(device, dtype)  # packed, the head is a copy
        self.num_bytes = (_num_parameters(weights) - is_shared * weights.head.numel()) * dtype.itemsize

    def new_kv(self) -> TorchKv:
        return TorchKv(self._architecture, self._device, self._dtype)

    @torch.inference_mode()
    def forward(self, batch: Sequence[Segment]) -> list[torch.Tensor]:
        """The only wait for the device is the copy of the logits at the end."""
        assert batch and len({id(segment.kv) for segment in batch}) == len(batch)
        parts, positions, wanted = self._plan(batch)
        ids = self._moved([token for segment in batch for token in segment.ids])
        x = self._embedding[ids]
        if self._architecture.embedding_scale != 1.0:
            x = x * self._architecture.embedding_scale
        at = self._moved(positions)
        cos, sin = self._cos[at][:, None], self._sin[at][:, None]
        last = None if len(wanted) == len(positions) else self._moved(wanted)
        for layer in self._layers:
            x = layer(x, cos, sin, parts, last if layer is self._layers[-1] else None)
        logits = self._head(self._norm(x)).float()
        if self._architecture.logit_scale != 1.0:
            logits = logits * self._architecture.logit_scale
        return list(logits.cpu().split([segment.num_rows for segment in batch]))

    def _plan(self, batch: Sequence[Segment]) -> tuple[list[_Part], list[int], list[int]]:
        """The parts, the position of each row, and the rows whose logits are wanted."""
        parts: list[_Part] = []
        positions: list[int] = []
        wanted: list[int] = []
        for segment in batch:
            num_ids, kv = len(segment.ids), segment.kv
            assert isinstance(kv, TorchKv) and 1 <= segment.num_rows <= num_ids
            parents = _parents(segment)
            depths = _depths(parents)
            assert kv.length + max(depths) < self.facts.max_context, "longer than the model's context"
            first, rows = len(positions), kv.begin(parents)
            masks = self._masks(parents, depths, kv.length)
            is_ordered = kv.length == 0 and isinstance(parents, range)
            parts.append(_Part(rows, first, num_ids, kv.length, masks, is_ordered))
            positions += [kv.length + depth for depth in depths]
            wanted += range(len(positions) - segment.num_rows, len(positions))
        return parts, positions, wanted

    def _masks(self, parents: Sequence[int], depths: Sequence[int], past: int) -> dict[int, torch.Tensor | None]:
        """What each window that the layers have hides of these rows. One window hides much or nothing, so nothing
        is made where nothing is hidden."""
        windows = set(self._architecture.windows) or {0}
        deepest = past + max(depths)
        cutting = {window for window in windows if 0 < window <= deepest}
        is_plain = len(parents) == 1 or (past == 0 and isinstance(parents, range))
        made: dict[int, torch.Tensor | None] = {}
        for window in windows:
            cut = window if window in cutting else 0
            made[window] = None if is_plain and not cut else self._mask(parents, depths, past, cut)
        return made

    def _mask(self, parents: Sequence[int], depths: Sequence[int], past: int, window: int) -> torch.Tensor:
        seen = torch.cat((torch.ones(len(parents), past, dtype=torch.bool), _ancestors(parents)), 1)
        if window:
            at = torch.tensor(depths) + past
            keys = torch.cat((torch.arange(past), at))
            seen &= keys > (at - window)[:, None]
        mask = torch.zeros(seen.shape, dtype=self._dtype).masked_fill_(~seen, float("-inf"))
        num_sharing = self._architecture.num_heads // self._architecture.num_kv_heads
        return mask.repeat(num_sharing, 1).to(self._device, non_blocking=True)

    def _moved(self, numbers: Sequence[int]) -> torch.Tensor:
        return torch.tensor(numbers).to(self._device, non_blocking=True)


class _Norm:
    def __init__(
        self,
        architecture: Architecture,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        self._is_rms, self._eps, self._shape = architecture.norm == "rms", architecture.norm_eps, weight.shape
        self._weight = weight.to(device=device, dtype=dtype)
        self._bias = None if bias is None else bias.to(device=device, dtype=dtype)

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        if self._is_rms:
            return functional.rms_norm(x, self._shape, self._weight, self._eps)
        return functional.layer_norm(x, self._shape, self._weight, self._bias, self._eps)


class _Layer:
    def __init__(
        self, architecture: Architecture, weights: LayerWeights, number: int, device: torch.device, dtype: torch.dtype
    ) -> None:
        a, w = architecture, weights
        self._architecture, self._number = architecture, number
        self._window = a.windows[number] if a.windows else 0
        self._attention_norm = _Norm(a, w.attention_norm, w.attention_norm_bias, device, dtype)
        self._mlp_norm = _Norm(a, w.mlp_norm, w.mlp_norm_bias, device, dtype)
        self._qkv = linear(w.qkv, w.qkv_bias, device, dtype)
        self._out = linear(w.out, w.out_bias, device, dtype)
        self._up = linear(w.up, w.up_bias, device, dtype)
        self._down = linear(w.down, w.down_bias, device, dtype)
        self._head_norm = None
        if w.q_norm is not None and w.k_norm is not None:
            heads = (w.q_norm.expand(a.num_heads, -1), w.k_norm.expand(a.num_kv_heads, -1))
            self._head_norm = torch.cat(heads).to(device=device, dtype=dtype)

    def __call__(
        self,
        x: torch.Tensor,
        cos: torch.Tensor,
        sin: torch.Tensor,
        parts: Sequence[_Part],
        wanted: torch.Tensor | None,
    ) -> torch.Tensor:
        """The rows of `wanted` only, if there is one: the last layer computes the rest for its keys and values."""
        attended = self._attention(self._attention_norm(x), cos, sin, parts)
        if wanted is not None:
            x, attended = x[wanted], attended[wanted]
        scale = self._architecture.residual_scale
        x = torch.add(x, self._out(attended), alpha=scale)
        return torch.add(x, self._mlp(self._mlp_norm(x)), alpha=scale)

    def _mlp(self, x: torch.Tensor) -> torch.Tensor:
        if not self._architecture.is_gated:
            return self._down(self._activated(self._up(x)))
        gate, up = self._up(x).chunk(2, -1)
        return self._down(self._activated(gate) * up)

    def _activated(self, x: torch.Tensor) -> torch.Tensor:
        if self._architecture.activation == "silu":
            return functional.silu(x)
        return functional.gelu(x, approximate="tanh")

    def _attention(self, x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, parts: Sequence[_Part]) -> torch.Tensor:
        a = self._architecture
        heads = self._qkv(x).view(len(x), -1, a.head_dim)
        turned, values = heads.split((a.num_heads + a.num_kv_heads, a.num_kv_heads), 1)
        if self._head_norm is not None:
            turned = functional.rms_norm(turned, (a.head_dim,), None, a.norm_eps) * self._head_norm
        first, second = turned.chunk(2, -1)
        swapped = torch.cat((second, first), -1)
        turned = torch.addcmul(turned * cos, swapped, sin)
        queries, keys = turned.split((a.num_heads, a.num_kv_heads), 1)
        found = [self._attend(part, *self._rows_of(part, queries, keys, values)) for part in parts]
        return found[0] if len(found) == 1 else torch.cat(found)

    def _rows_of(self, part: _Part, *tensors: torch.Tensor) -> Iterator[torch.Tensor]:
        return (tensor[part.first : part.first + part.num_ids] for tensor in tensors)

    def _attend(self, part: _Part, queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
        a, start, end = self._architecture, part.past, part.past + part.num_ids
        key_rows, value_rows = part.rows[self._number].split(a.num_kv_heads)
        key_rows[:, start:end] = keys.transpose(0, 1)
        value_rows[:, start:end] = values.transpose(0, 1)
        seen, mask = (key_rows[None, :, :end], value_rows[None, :, :end]), part.masks[self._window]
        if part.is_ordered and mask is None:
            return self._attend_in_order(queries, *seen)
        # The query heads that share a key head become rows of one head: so no key is copied.
        num_sharing = a.num_heads // a.num_kv_heads
        folded = queries.unflatten(1, (-1, num_sharing)).permute(1, 2, 0, 3).flatten(1, 2)[None]
        found: torch.Tensor = functional.scaled_dot_product_attention(folded, *seen, mask, scale=a.attention_scale)[0]
        return found.view(a.num_kv_heads, num_sharing, part.num_ids, -1).permute(2, 0, 1, 3).flatten(1)

    def _attend_in_order(self, queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
        """Half the work of a mask: 18 instead of 37 ms for 900 rows of 6 heads of 64 (float32, one thread)."""
        found: torch.Tensor = functional.scaled_dot_product_attention(
            queries.transpose(0, 1)[None],
            keys,
            values,
            is_causal=True,
            scale=self._architecture.attention_scale,
            enable_gqa=True,
        )
        return found[0].transpose(0, 1).flatten(1)


def _parents(segment: Segment) -> Sequence[int]:
    """A range for a chain, also for a tree that is one."""
    chain = range(-1, len(segment.ids) - 1)
    if segment.parents is None or list(segment.parents) == list(chain):
        return chain
    assert len(segment.parents) == len(segment.ids)
    assert all(-1 <= parent < row for row, parent in enumerate(segment.parents)), "a parent must come before its child"
    return tuple(segment.parents)


def _depths(parents: Sequence[int]) -> Sequence[int]:
    """Of each row: how many rows of the segment are before it on its path."""
    if isinstance(parents, range):
        return range(len(parents))
    depths: list[int] = []
    for parent in parents:
        depths.append(0 if parent < 0 else depths[parent] + 1)
    return depths


def _ancestors(parents: Sequence[int]) -> torch.Tensor:
    """(rows, rows), bool: whether the column is the row itself or on its path."""
    seen = torch.eye(len(parents), dtype=torch.bool)
    if isinstance(parents, range):
        return torch.ones_like(seen).tril_()
    for row, parent in enumerate(parents):
        if parent >= 0:
            seen[row] |= seen[parent]
    return seen


def _is_path(rows: Sequence[int], parents: Sequence[int]) -> bool:
    """Whether the first of `rows` follows the past and each other the one before it."""
    if isinstance(parents, range):
        return len(rows) <= len(parents) and list(rows) == list(range(len(rows)))
    before = [-1, *rows]
    return all(0 <= row < len(parents) and parents[row] == before[i] for i, row in enumerate(rows))


def _num_parameters(weights: Weights) -> int:
    """Those of the matrices, head and embedding counted apart."""
    layers = sum(m.numel() for layer in weights.layers for m in (layer.qkv, layer.out, layer.up, layer.down))
    return layers + weights.embedding.numel() + weights.head.numel()
