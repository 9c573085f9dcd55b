"""Weights as our own decoders want them: fused per layer, with an adapter merged in."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from homespun_server.engine.families import Architecture


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerWeights:
    """Matrices are (outputs, inputs), row-major. A bias or norm that a family doesn't have is None."""

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
