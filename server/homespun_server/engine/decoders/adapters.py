"""A LoRA directory: what its configuration says, and what it adds to each matrix of the base model.

Adapters are merged, because on a small model the extra matrix products of an unmerged adapter cost 20 to 50 % of a
step, and because two sets of weights that share nothing can't leak into each other.
"""

from __future__ import annotations

import json
import math
import re
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from homespun_core.errors import ModelError

_WEIGHTS, _CONFIG = "adapter_model.safetensors", "adapter_config.json"
_PLAIN: dict[str, tuple[object, ...]] = {
    "peft_type": ("LORA",),
    "bias": ("none", None),
    # The others are computed from the base model, or change it before training starts.
    "init_lora_weights": (True, False, None, "gaussian", "orthogonal"),
}
"""What a plain LoRA says; anything else would load more than two matrices a layer, or code."""
_READ = {"r", "lora_alpha", "use_rslora", "target_modules", "rank_pattern", "alpha_pattern"}
_INERT = {
    "auto_mapping",
    "base_model_name_or_path",
    "inference_mode",
    "lora_dropout",
    "megatron_core",
    "peft_version",
    "qalora_group_size",
    "revision",
    "runtime_config",
    "task_type",
}
_ALL_LINEAR = "all-linear"
_T = TypeVar("_T")
MISFITS = (ValueError, RuntimeError, KeyError, TypeError, OSError, SafetensorError, re.error)
"""What reading and merging untrusted weights can raise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lora:
    path: Path
    rank: int
    alpha: float
    is_rank_stabilised: bool
    targets: str | tuple[str, ...]
    """Ends of module names, or a pattern that a whole name matches, or "all-linear"."""
    ranks: Mapping[str, int]
    alphas: Mapping[str, float]
    """Exceptions by pattern of module name; the first that matches counts."""

    def adapts(self, module: str) -> bool:
        """Whether it has weights for a linear module of the base model."""
        if self.targets == (_ALL_LINEAR,):
            return module != "lm_head"
        return any(module == target or module.endswith(f".{target}") for target in self.targets)

    def rank_of(self, module: str) -> int:
        return _by_pattern(self.ranks, module, self.rank)

    def scale_of(self, module: str) -> float:
        rank, alpha = self.rank_of(module), _by_pattern(self.alphas, module, self.alpha)
        return alpha / math.sqrt(rank) if self.is_rank_stabilised else alpha / rank


@dataclass(frozen=True, slots=True, kw_only=True)
class Delta:
    """What an adapter adds to one matrix: scale x up @ down, computed in float32."""

    down: torch.Tensor
    """(rank, inputs)."""
    up: torch.Tensor
    """(outputs, rank)."""
    scale: float

    def added_to(self, matrix: torch.Tensor) -> torch.Tensor:
        return torch.addmm(matrix.float(), self.up.float(), self.down.float(), alpha=self.scale)


def read_lora(path: Path) -> Lora:
    """Raises ModelError when `path` isn't a plain LoRA."""
    config = _read_config(path / _CONFIG)
    if not (path / _WEIGHTS).is_file():
        raise ModelError(f"{path}: has no {_WEIGHTS}; only safetensors are read")
    _check_plain(path / _CONFIG, config)
    try:
        targets = config["target_modules"]
        return Lora(
            path=path,
            rank=_positive(int(config["r"])),
            alpha=float(config["lora_alpha"]),
            is_rank_stabilised=bool(config.get("use_rslora")),
            targets=_names(targets),
            ranks={str(key): _positive(int(rank)) for key, rank in (config.get("rank_pattern") or {}).items()},
            alphas={str(key): float(alpha) for key, alpha in (config.get("alpha_pattern") or {}).items()},
        )
    except (KeyError, TypeError, ValueError, OverflowError, AttributeError) as error:
        raise ModelError(f"{path / _CONFIG}: is not an adapter configuration ({error!r}); train it again") from error


def read_deltas(lora: Lora, shapes: Mapping[str, tuple[int, int]]) -> dict[str, Delta]:
    """By module. `shapes` has the (outputs, inputs) of every linear module that the base model has.

    Raises one of MISFITS unless the adapter has exactly the weights that its configuration announces: a training run
    that saved half of them must not be served as if it were whole.
    """
    modules = [module for module in shapes if lora.adapts(module)]
    expected = {name: shape for module in modules for name, shape in _expected(lora, module, shapes[module])}
    if not modules:
        raise ValueError("it adapts no module of it")
    weights = load_file(lora.path / _WEIGHTS)
    refuse_other_weights(weights, expected)
    return {
        module: Delta(down=weights[_name(module, "A")], up=weights[_name(module, "B")], scale=lora.scale_of(module))
        for module in modules
    }


def refuse_other_weights(weights: Mapping[str, torch.Tensor], expected: Mapping[str, tuple[int, ...]]) -> None:
    """Raises ValueError unless names and shapes are the expected ones."""
    wrong = sorted(weights.keys() ^ expected.keys())
    wrong = wrong or sorted(name for name, shape in expected.items() if tuple(weights[name].shape) != tuple(shape))
    if wrong:
        raise ValueError(f"{len(wrong)} of its weights are missing, unknown or of another shape, {wrong[0]} first")


def misfit(path: Path, error: Exception) -> ModelError:
    reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
    return ModelError(f"{path}: doesn't fit the base model ({reason}); train it again")


def merged_by_peft(module: Any, lora: Lora) -> Any:
    """For models that only transformers knows. Raises one of MISFITS.

    Not by `PeftModel.from_pretrained`, which only warns when weights are missing, and falls back to pickles.
    """
    # Imported here: it takes as long as all else the engine needs (2 of 4.5 s), and few models need it.
    from peft import LoraConfig, get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict

    config = LoraConfig.from_pretrained(str(lora.path))
    config.base_model_name_or_path = None  # the trainer's place on disk; the base model's digest was compared instead
    with warnings.catch_warnings():
        # peft 0.21 asks transformers 5 for an attribute under its old name; nobody who uses Homespun can do anything.
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
        adapted = get_peft_model(module, config)
    weights = load_file(lora.path / _WEIGHTS)
    expected = get_peft_model_state_dict(adapted)
    refuse_other_weights(weights, {name: tuple(tensor.shape) for name, tensor in expected.items()})
    set_peft_model_state_dict(adapted, weights)
    return adapted.merge_and_unload(safe_merge=True)


def _expected(lora: Lora, module: str, shape: tuple[int, int]) -> Iterable[tuple[str, tuple[int, int]]]:
    outputs, inputs = shape
    rank = lora.rank_of(module)
    yield _name(module, "A"), (rank, inputs)
    yield _name(module, "B"), (outputs, rank)


def _name(module: str, side: str) -> str:
    return f"base_model.model.{module}.lora_{side}.weight"


def _by_pattern(values: Mapping[str, _T], module: str, default: _T) -> _T:
    matching = (value for key, value in values.items() if module == key or module.endswith(f".{key}"))
    return next(matching, default)


def _names(targets: object) -> tuple[str, ...]:
    """No expressions: one that runs for ever would hold up the whole server."""
    if isinstance(targets, str) and targets.lower() == _ALL_LINEAR:
        return (_ALL_LINEAR,)
    if isinstance(targets, list) and all(isinstance(target, str) for target in targets):
        return tuple(targets)
    raise ValueError("target_modules must be a list of names, or all-linear")


def _positive(rank: int) -> int:
    if rank < 1:
        raise ValueError(f"rank {rank}")
    return rank


def _check_plain(path: Path, config: Mapping[str, Any]) -> None:
    """peft adds a key for every variant of LoRA: those we don't know must say nothing."""
    for key, value in config.items():
        is_plain = key in _READ | _INERT or value in _PLAIN.get(key, (None, False, "", [], {}))
        if not is_plain:
            raise ModelError(f"{path}: {key} is {value!r}; only plain LoRA adapters are served")
    if "peft_type" not in config:
        raise ModelError(f"{path}: peft_type is missing; only plain LoRA adapters are served")


def _read_config(path: Path) -> dict[str, Any]:
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{path}: unreadable ({error})") from error
    if not isinstance(config, dict):
        raise ModelError(f"{path}: is not an adapter configuration")
    return config
