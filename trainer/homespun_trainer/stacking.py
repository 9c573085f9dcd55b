"""Adapters on top of adapters: plain LoRAs added to a base model, and composed into one that computes the same.

The composed adapter has the ranks of all of them side by side, so serving it costs no more than serving one.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from homespun_core.errors import ModelError

STACKABLE = ("lora", "rslora")
PEFT_FILES = _CONFIG, _WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
_PREFIX, _DOWN, UP = "base_model.model.", ".lora_A.weight", ".lora_B.weight"
_NOT_PLAIN = ("use_dora", "rank_pattern", "alpha_pattern", "modules_to_save", "lora_bias", "fan_in_fan_out")


@dataclass(frozen=True, slots=True, kw_only=True)
class PlainLora:
    """LoRA or rsLoRA with one rank and scale for all modules."""

    name: str
    digest: str
    """SHA-256 of its weights and of its configuration."""
    scale: float
    down: Mapping[str, torch.Tensor]
    """By module of the base model: (rank, inputs)."""
    up: Mapping[str, torch.Tensor]
    """(outputs, rank)."""

    @property
    def rank(self) -> int:
        return next(iter(self.down.values())).shape[0]


def read_plain_lora(path: Path) -> PlainLora:
    """Raises ModelError, in one line, when `path` holds anything else. Reads JSON and safetensors only."""
    try:
        config = json.loads((path / _CONFIG).read_bytes())
        weights = load_file(path / _WEIGHTS)
        _check_plain(config)
        rank, alpha = int(config["r"]), float(config["lora_alpha"])
        down, up = _side(weights, _DOWN), _side(weights, UP)
        if len(down) + len(up) != len(weights) or not down or down.keys() != up.keys():
            raise ValueError("it has other weights than pairs of matrices")
        if any(down[m].shape[:1] != (rank,) or up[m].shape[1:] != (rank,) for m in down):
            raise ValueError(f"its matrices are not of rank {rank}")
        scale = alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)
        digest = _digest(path)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, ArithmeticError, SafetensorError) as error:
        raise ModelError(
            f"{path} is no plain LoRA or rsLoRA ({_first_line(error)}), and nothing else can have an adapter on top;"
            f" train that one with --method {STACKABLE[0]}"
        ) from error
    return PlainLora(name=path.name, digest=digest, scale=scale, down=down, up=up)


def digest_of(path: Path) -> str | None:
    """As a `PlainLora` has it, of anything in peft's form; None where there is nothing."""
    try:
        return _digest(path)
    except OSError:
        return None


def _digest(path: Path) -> str:
    weights = hashlib.sha256((path / _WEIGHTS).read_bytes()).digest()
    return hashlib.sha256((path / _CONFIG).read_bytes() + weights).hexdigest()


@torch.no_grad()
def merge_into(model: Any, lora: PlainLora) -> None:
    """Add it to the base model's weights. Raises ModelError, before anything is changed, when it doesn't fit them."""
    modules = dict(model.named_modules())
    for name, up in lora.up.items():
        shape = getattr(getattr(modules.get(name), "weight", None), "shape", None)
        if shape != (up.shape[0], lora.down[name].shape[1]):
            raise ModelError(f"on_top_of: {lora.name} doesn't fit the base model at {name}; it belongs to another one")
    for name, up in lora.up.items():
        weight = modules[name].weight
        change = (up.float() @ lora.down[name].float() * lora.scale).to(weight.device)
        weight.copy_((weight.float() + change).to(weight.dtype))


def compose(paths: Sequence[Path], folder: Path, base_name: str) -> None:
    """One plain LoRA in `folder` that changes what all those at `paths` change together. Raises ModelError."""
    loras = [read_plain_lora(path) for path in paths]
    modules = sorted({module for lora in loras for module in lora.down})
    tensors: dict[str, torch.Tensor] = {}
    for module in modules:
        shape = next((lora.up[module].shape[0], lora.down[module].shape[1]) for lora in loras if module in lora.down)
        down, up = zip(*(_part(lora, module, shape) for lora in loras), strict=True)
        tensors[f"{_PREFIX}{module}{_DOWN}"] = torch.cat(down, dim=0)
        tensors[f"{_PREFIX}{module}{UP}"] = torch.cat(up, dim=1)
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / _WEIGHTS)
    rank = sum(lora.rank for lora in loras)
    config = LoraConfig(r=rank, lora_alpha=rank, target_modules=modules, task_type="CAUSAL_LM")  # each scale is in `up`
    config.base_model_name_or_path, config.inference_mode = base_name, True
    config.save_pretrained(str(folder))


def _part(lora: PlainLora, module: str, shape: tuple[int, int]) -> tuple[torch.Tensor, torch.Tensor]:
    """Its ranks in the composed matrices; zeros where it has none for the module."""
    if module not in lora.down:
        return torch.zeros(lora.rank, shape[1]), torch.zeros(shape[0], lora.rank)
    down, up = lora.down[module].float(), lora.up[module].float() * lora.scale
    if (up.shape[0], down.shape[1]) != shape:
        raise ModelError(f"on_top_of: {lora.name} belongs to another base model than the others ({module})")
    return down, up


def _check_plain(config: Mapping[str, Any]) -> None:
    if config["peft_type"] != "LORA":
        raise ValueError(f"peft_type is {config['peft_type']!r}")
    special = [key for key in _NOT_PLAIN if config.get(key)]
    if special or config.get("bias") not in (None, "none"):
        raise ValueError(f"{(special or ['bias'])[0]} is set")


def _side(weights: Mapping[str, torch.Tensor], suffix: str) -> dict[str, torch.Tensor]:
    names = [name for name in weights if name.startswith(_PREFIX) and name.endswith(suffix)]
    return {name.removeprefix(_PREFIX).removesuffix(suffix): weights[name] for name in names}


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
