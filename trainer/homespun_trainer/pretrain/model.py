"""The model that is trained: Llama by transformers, new or going on from weights that exist."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from homespun_core.errors import ModelError
from homespun_core.types import ModelFiles
from homespun_trainer.lora import load_base
from homespun_trainer.placement import Placement

CONTEXT = 2048
_MULTIPLE = 64
"""The vocabulary is rounded up to this: shapes that matrix units like."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    layers: int
    width: int
    heads: int
    kv_heads: int
    inner: int
    """Of the feed-forward layers."""


SIZES = {
    "tiny": Size(layers=2, width=64, heads=2, kv_heads=1, inner=160),
    "19m": Size(layers=8, width=384, heads=6, kv_heads=2, inner=1024),
    "40m": Size(layers=12, width=512, heads=8, kv_heads=2, inner=1408),
    "110m": Size(layers=16, width=768, heads=12, kv_heads=4, inner=2048),
}
"""Names say about how many parameters there are with a vocabulary of 16,384; tiny is for trying the steps."""


def new_model(size: Size, *, vocabulary: int, end: int, pad: int, seed: int) -> Any:
    """Random weights. Each layer's output starts small, so that a deep model begins as nearly the identity."""
    config = LlamaConfig(
        vocab_size=-(-vocabulary // _MULTIPLE) * _MULTIPLE,
        hidden_size=size.width,
        intermediate_size=size.inner,
        num_hidden_layers=size.layers,
        num_attention_heads=size.heads,
        num_key_value_heads=size.kv_heads,
        max_position_embeddings=CONTEXT,
        rms_norm_eps=1e-5,
        tie_word_embeddings=True,
        bos_token_id=end,
        eos_token_id=end,
        pad_token_id=pad,
        use_cache=False,
    )
    model = LlamaForCausalLM(config)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.dim() == 2:
                weight.normal_(0.0, _deviation(name, weight.shape[1], size.layers), generator=generator)
    return model


def load_model(files: ModelFiles, *, vocabulary: int) -> Any:
    """Weights to go on from, in fp32. Raises ModelError when they are no Llama or of another vocabulary."""
    if files.config.get("model_type") != "llama":
        raise ModelError(f"--from: {files.name} is of type {files.config.get('model_type')!r}; want llama")
    model = load_base(files, Placement(torch.device("cpu"), torch.float32))
    rows = model.get_input_embeddings().weight.shape[0]
    if rows < vocabulary:
        raise ModelError(f"--from: {files.name} knows {rows:,} tokens, the rows were made with {vocabulary:,}")
    return model


def config_of(model: Any) -> dict[str, Any]:
    """JSON values that `model_of` makes a model of the same shape from."""
    config: dict[str, Any] = json.loads(model.config.to_json_string(use_diff=False))
    return config


def model_of(config: dict[str, Any]) -> Any:
    return LlamaForCausalLM(LlamaConfig.from_dict(config))


def place(model: Any, placement: Placement) -> Any:
    """On the device, its weights in the number format. Buffers stay in fp32: in bfloat16 the frequencies of the rotary
    embedding would turn every position elsewhere than the served model does."""
    for weight in model.parameters():
        weight.data = weight.data.to(placement.device, placement.dtype)
    return model.to(placement.device)


def is_hidden_matrix(name: str, weight: torch.Tensor) -> bool:
    """Whether Muon steps it: the matrices inside the layers."""
    return weight.dim() == 2 and ".layers." in name


def _deviation(name: str, width: int, layers: int) -> float:
    if "embed" in name:
        return 0.02
    gain = 0.9 if "o_proj" not in name and "down_proj" not in name else 0.9 * (2 * layers) ** -0.5
    return float(gain * width**-0.5)
