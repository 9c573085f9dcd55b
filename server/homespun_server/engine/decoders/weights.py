"""Weights as our own decoders want them: fused per layer, with an adapter merged in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from homespun_core.errors import ModelError
from homespun_server.engine.decoders.adapters import MISFITS, misfit, read_adapter, read_changes
from homespun_server.engine.decoders.changes import Change
from homespun_server.engine.decoders.checkpoint import Tensors, read_config
from homespun_server.engine.decoders.families import Architecture, Checkpoint, checkpoint_of, full_config

_EMBEDDING, _NORM, _HEAD = "model.embed_tokens", "model.norm", "lm_head"
_Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerWeights:
    """Matrices are (outputs, inputs), row-major. Norms are float32. A bias or norm that a family lacks is None."""

    attention_norm: torch.Tensor
    attention_norm_bias: torch.Tensor | None
    qkv: torch.Tensor
    """Rows: all query heads, then all key heads, then all value heads."""
    qkv_bias: torch.Tensor | None
    q_norm: torch.Tensor | None
    k_norm: torch.Tensor | None
    """(head_dim): RMS norms of each query and key head before the rotation (Qwen3)."""
    out: torch.Tensor
    out_bias: torch.Tensor | None
    mlp_norm: torch.Tensor
    mlp_norm_bias: torch.Tensor | None
    up: torch.Tensor
    """Gated: rows of the gate, then rows of up: (2 x intermediate, hidden). Otherwise (intermediate, hidden)."""
    up_bias: torch.Tensor | None
    down: torch.Tensor
    down_bias: torch.Tensor | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    architecture: Architecture
    embedding: torch.Tensor
    """(vocabulary, hidden)."""
    layers: tuple[LayerWeights, ...]
    norm: torch.Tensor
    norm_bias: torch.Tensor | None
    head: torch.Tensor
    """(vocabulary, hidden); the embedding itself where the two are tied."""
    cos: torch.Tensor
    sin: torch.Tensor
    """(max_context, head_dim / 2), float32: rotation of dimensions i and i + head_dim / 2 of a head by position."""


def load_weights(path: Path, architecture: Architecture, adapter: Path | None, dtype: torch.dtype) -> Weights:
    """The model at `path`, which `architecture` was made from, with `adapter` merged in.

    Raises ModelError when files are missing, damaged or of another shape, or when the adapter isn't one for this
    model. Norms are float32 whatever the `dtype`: they are small, and Gemma's, with one added to each, would lose
    bits in 16.
    """
    config = read_config(path)
    reader = _Reader(Tensors(path), architecture, checkpoint_of(config), dtype)
    if adapter is not None:
        read = read_adapter(adapter)
        try:
            reader.changes = read_changes(read, reader.linear_shapes())
        except MISFITS as error:
            raise misfit(adapter, error) from error
    try:
        return reader.weights(*_rotations(config, architecture))
    except _NotFiniteError as error:
        assert adapter is not None
        raise misfit(adapter, error) from error


def has_known_weights(path: Path, architecture: Architecture) -> bool:
    """Whether the files hold what `load_weights` looks for, and nothing else that the family doesn't know."""
    try:
        names = Tensors(path).names
    except ModelError:
        return False
    checkpoint = checkpoint_of(read_config(path))
    wanted = _names(architecture, checkpoint)
    optional = {f"{_HEAD}.weight"} if checkpoint.is_tied else set[str]()
    extra = {name for name in names - wanted if not name.endswith("rotary_emb.inv_freq")}  # old files store it
    return wanted - optional <= names and extra <= optional


class _NotFiniteError(ValueError):
    pass


class _Reader:
    """Reads, merges, converts and fuses, a matrix at a time: besides what it returns, it holds one of them."""

    def __init__(
        self, tensors: Tensors, architecture: Architecture, checkpoint: Checkpoint, dtype: torch.dtype
    ) -> None:
        self._tensors, self._architecture, self._checkpoint, self._dtype = tensors, architecture, checkpoint, dtype
        self._shapes = _module_shapes(architecture, checkpoint)
        self.changes: Mapping[str, Change] = {}

    def linear_shapes(self) -> dict[str, tuple[int, int]]:
        """An adapter's matrices may belong to these. Not to the head: with that, peft saves whole embeddings."""
        return {
            module: (shape[0], shape[1])
            for module, shape in self._shapes.items()
            if len(shape) == 2 and module not in (_EMBEDDING, _HEAD)
        }

    def weights(self, cos: torch.Tensor, sin: torch.Tensor) -> Weights:
        embedding = self._fused([_EMBEDDING])
        return Weights(
            architecture=self._architecture,
            embedding=embedding,
            layers=tuple(self._layer(number) for number in range(self._architecture.num_layers)),
            norm=self._norm(_NORM),
            norm_bias=self._norm_bias(_NORM),
            head=embedding if self._is_tied() else self._fused([_HEAD]),
            cos=cos,
            sin=sin,
        )

    def _layer(self, number: int) -> LayerWeights:
        has, at = self._checkpoint, f"model.layers.{number}"
        qkv, out = [f"{at}.self_attn.{side}_proj" for side in "qkv"], [f"{at}.self_attn.o_proj"]
        up, down = [f"{at}.mlp.{name}" for name in has.up], [f"{at}.mlp.{has.down}"]
        return LayerWeights(
            attention_norm=self._norm(f"{at}.input_layernorm"),
            attention_norm_bias=self._norm_bias(f"{at}.input_layernorm"),
            qkv=self._fused(qkv),
            qkv_bias=self._bias(qkv, has.has_qkv_bias),
            q_norm=self._norm(f"{at}.self_attn.q_norm") if has.has_head_norms else None,
            k_norm=self._norm(f"{at}.self_attn.k_norm") if has.has_head_norms else None,
            out=self._fused(out),
            out_bias=self._bias(out, has.has_out_bias),
            mlp_norm=self._norm(f"{at}.post_attention_layernorm"),
            mlp_norm_bias=self._norm_bias(f"{at}.post_attention_layernorm"),
            up=self._fused(up),
            up_bias=self._bias(up, has.has_mlp_bias),
            down=self._fused(down),
            down_bias=self._bias(down, has.has_mlp_bias),
        )

    def _fused(self, modules: Sequence[str]) -> torch.Tensor:
        """Their rows, one module after the other."""
        rows = [self._shapes[module][0] for module in modules]
        fused = torch.empty(sum(rows), self._shapes[modules[0]][1], dtype=self._dtype)
        for part, module in zip(fused.split(rows), modules, strict=True):
            part.copy_(self._merged(module))
        return fused

    def _merged(self, module: str) -> torch.Tensor:
        stored = self._tensors.get(f"{module}.weight", self._shapes[module])
        change = self.changes.get(module)
        if change is None:
            if not bool(stored.isfinite().all()):
                raise ModelError(f"base_model: {module} has weights that are no finite numbers; download it again")
            return stored
        merged = change.to_matrix(stored).to(self._dtype)
        if not bool(merged.isfinite().all()):
            raise _NotFiniteError("merged with it, the weights are not finite")
        return merged

    def _bias(self, modules: Sequence[str], has_bias: bool) -> torch.Tensor | None:
        if not has_bias:
            return None
        return torch.cat([self._merged_bias(module).to(self._dtype) for module in modules])

    def _merged_bias(self, module: str) -> torch.Tensor:
        stored = self._tensors.get(f"{module}.bias", self._shapes[module][:1])
        change = self.changes.get(module)
        return stored if change is None else change.to_bias(stored)

    def _norm(self, module: str) -> torch.Tensor:
        return self._tensors.get(f"{module}.weight", self._shapes[module]).float() + self._checkpoint.norm_offset

    def _norm_bias(self, module: str) -> torch.Tensor | None:
        if not self._checkpoint.has_norm_bias:
            return None
        return self._tensors.get(f"{module}.bias", self._shapes[module]).float().clone()

    def _is_tied(self) -> bool:
        """Where the configuration says so, but the files have a head that differs, the files are right."""
        if not self._checkpoint.is_tied or f"{_HEAD}.weight" not in self._tensors.names:
            return self._checkpoint.is_tied
        shape = self._shapes[_HEAD]
        return torch.equal(*(self._tensors.get(f"{module}.weight", shape) for module in (_EMBEDDING, _HEAD)))


def _module_shapes(architecture: Architecture, checkpoint: Checkpoint) -> dict[str, _Shape]:
    """Of the `weight` of each module."""
    a, hidden = architecture, architecture.hidden
    heads, kv_heads = a.num_heads * a.head_dim, a.num_kv_heads * a.head_dim
    layer: dict[str, _Shape] = {
        "input_layernorm": (hidden,),
        "self_attn.q_proj": (heads, hidden),
        "self_attn.k_proj": (kv_heads, hidden),
        "self_attn.v_proj": (kv_heads, hidden),
        "self_attn.o_proj": (hidden, heads),
        "post_attention_layernorm": (hidden,),
        **{f"mlp.{name}": (a.intermediate, hidden) for name in checkpoint.up},
        f"mlp.{checkpoint.down}": (hidden, a.intermediate),
    }
    if checkpoint.has_head_norms:
        layer |= {"self_attn.q_norm": (a.head_dim,), "self_attn.k_norm": (a.head_dim,)}
    shapes: dict[str, _Shape] = {
        _EMBEDDING: (a.vocab_size, hidden),
        _NORM: (hidden,),
        _HEAD: (a.vocab_size, hidden),
    }
    for number in range(a.num_layers):
        shapes |= {f"model.layers.{number}.{name}": shape for name, shape in layer.items()}
    return shapes


def _names(architecture: Architecture, checkpoint: Checkpoint) -> frozenset[str]:
    """Of all tensors."""
    has = checkpoint
    biases = {
        **dict.fromkeys(("input_layernorm", "post_attention_layernorm", "norm"), has.has_norm_bias),
        **dict.fromkeys(("q_proj", "k_proj", "v_proj"), has.has_qkv_bias),
        **dict.fromkeys((*has.up, has.down), has.has_mlp_bias),
        "o_proj": has.has_out_bias,
    }
    modules = _module_shapes(architecture, checkpoint)
    biased = {module for module in modules if biases.get(module.rpartition(".")[2])}
    return frozenset({f"{module}.weight" for module in modules} | {f"{module}.bias" for module in biased})


def _rotations(config: Mapping[str, Any], architecture: Architecture) -> tuple[torch.Tensor, torch.Tensor]:
    """The tables `cos` and `sin` of Weights, by transformers' own rules for stretched contexts."""
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    full = full_config(config)
    assert full is not None
    kind, dim = full.rope_parameters["rope_type"], architecture.head_dim
    if kind == "default":
        frequencies = 1.0 / (full.rope_parameters["rope_theta"] ** (torch.arange(0, dim, 2, dtype=torch.float) / dim))
        factor = 1.0
    else:
        frequencies, factor = ROPE_INIT_FUNCTIONS[kind](full)
    angles = torch.arange(architecture.max_context).float()[:, None] * frequencies
    return angles.cos() * factor, angles.sin() * factor
