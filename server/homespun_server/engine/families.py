"""The Llama family as a table of differences: what a checkpoint's config.json says about the arithmetic."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """Everything about a decoder-only transformer that is not in its weights."""

    vocab_size: int
    hidden: int
    intermediate: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    max_context: int
    norm: Literal["rms", "layer"]
    norm_eps: float
    activation: Literal["silu", "gelu_tanh"]
    is_gated: bool
    """down(act(gate(x)) * up(x)); otherwise down(act(up(x)))."""
    attention_scale: float
    embedding_scale: float = 1.0
    residual_scale: float = 1.0
    """What attention and MLP add is multiplied by it."""
    logit_scale: float = 1.0
    windows: tuple[int, ...] = ()
    """By layer: a token sees itself and the `window - 1` tokens before it; 0 is all. Empty: all, in every layer."""
