"""Tiny random models of every family that our own decoders know, and of one that they don't."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers

VOCAB, CONTEXT = 64, 256
_SIZE: dict[str, Any] = {
    "vocab_size": VOCAB,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": CONTEXT,
    "initializer_range": 0.3,  # large, so that the likeliest token depends on the context
    "bos_token_id": 0,
    "eos_token_id": 0,
    "pad_token_id": 0,
    "tie_word_embeddings": False,
}
_LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 10_000.0,
    "factor": 4.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
_YARN = {"rope_type": "yarn", "rope_theta": 10_000.0, "factor": 4.0, "original_max_position_embeddings": 64}
_LINEAR = {"rope_type": "linear", "rope_theta": 10_000.0, "factor": 4.0}
_DYNAMIC = {"rope_type": "dynamic", "rope_theta": 10_000.0, "factor": 4.0}
_SLIDING = {"use_sliding_window": True, "sliding_window": 16, "max_window_layers": 1}


def _model(family: str, **options: Any) -> Callable[[], Any]:
    config, model = getattr(transformers, f"{family}Config"), getattr(transformers, f"{family}ForCausalLM")
    return lambda: model(config(**(_SIZE | options)))


KNOWN: dict[str, Callable[[], Any]] = {
    "llama": _model("Llama"),
    "llama-tied": _model("Llama", tie_word_embeddings=True, num_key_value_heads=4),
    "llama-biased": _model("Llama", attention_bias=True, mlp_bias=True, head_dim=16, num_key_value_heads=1),
    "llama-llama3": _model("Llama", rope_parameters=_LLAMA3),
    "llama-yarn": _model("Llama", rope_parameters=_YARN),
    "llama-linear": _model("Llama", rope_parameters=_LINEAR),
    "llama-dynamic": _model("Llama", rope_parameters=_DYNAMIC),
    "mistral": _model("Mistral", sliding_window=None, head_dim=12),
    "mistral-sliding": _model("Mistral", sliding_window=16),
    "qwen2": _model("Qwen2"),
    "qwen2-sliding": _model("Qwen2", **_SLIDING),
    "qwen3": _model("Qwen3", head_dim=16),
    "qwen3-sliding": _model("Qwen3", head_dim=8, attention_bias=True, **_SLIDING),
    "starcoder2": _model("Starcoder2", sliding_window=None, tie_word_embeddings=True),
    "starcoder2-sliding": _model("Starcoder2", sliding_window=16, use_bias=False),
    "granite": _model(
        "Granite",
        attention_bias=True,
        embedding_multiplier=2.0,
        residual_multiplier=0.7,
        attention_multiplier=0.2,
        logits_scaling=1.5,
    ),
    "gemma": _model("Gemma", head_dim=16, tie_word_embeddings=True, initializer_range=0.1),
}
UNKNOWN: dict[str, Callable[[], Any]] = {"stablelm": _model("StableLm", use_parallel_residual=True)}


def save(name: str, path: Path, *, seed: int = 0, **options: Any) -> Path:
    """Its norms and biases are random too: fresh ones are ones and zeros, which would hide whether they are used."""
    torch.manual_seed(seed)
    module = (KNOWN | UNKNOWN)[name]()
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.dim() == 1:
                parameter.add_(torch.randn_like(parameter) * 0.2)
    module.save_pretrained(path, **options)
    return path


def reference(path: Path) -> Any:
    return transformers.AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32).eval()


@torch.inference_mode()
def all_logits(module: Any, ids: list[int]) -> torch.Tensor:
    """(ids, vocabulary), as transformers computes them in one go."""
    logits: torch.Tensor = module(input_ids=torch.tensor([ids])).logits[0]
    return logits
