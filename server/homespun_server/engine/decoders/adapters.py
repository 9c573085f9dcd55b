"""An adapter's directory: what its configuration says, and what it changes in each matrix of the base model.

LoRA, rsLoRA, DoRA and IA3, as peft saves them. Adapters are merged, because on a small model the extra matrix products
of an unmerged adapter cost 20 to 50 % of a step, and because two sets of weights that share nothing can't leak into
each other.
"""

from __future__ import annotations

import json
import math
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from homespun_core.errors import ModelError
from homespun_server.engine.decoders.changes import Change, LowRank, Scaling

_WEIGHTS, _CONFIG = "adapter_model.safetensors", "adapter_config.json"
_SILENT: tuple[object, ...] = (None, False, "", [], {})
_KNOWN: dict[str, dict[str, tuple[object, ...]]] = {
    "LORA": {
        "bias": ("none", None),
        # The others are computed from the base model, or change it before training starts.
        "init_lora_weights": (True, False, None, "gaussian", "orthogonal"),
    },
    "IA3": {"init_ia3_weights": (True, False, None)},
}
"""By peft_type, what else a configuration may say; anything else would load more than we merge, or code."""
_READ = {
    "LORA": {"r", "lora_alpha", "use_rslora", "use_dora", "target_modules", "rank_pattern", "alpha_pattern"},
    "IA3": {"target_modules", "feedforward_modules"},
}
_SERVED = "LoRA, rsLoRA, DoRA and IA3 adapters are served"
_INERT = {
    "auto_mapping",
    "base_model_name_or_path",
    "inference_mode",
    "lora_dropout",
    "megatron_core",
    "peft_type",
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
    """rsLoRA and DoRA included."""

    path: Path
    rank: int
    alpha: float
    is_rank_stabilised: bool
    has_magnitudes: bool
    targets: tuple[str, ...]
    """Ends of module names, or "all-linear"."""
    ranks: Mapping[str, int]
    alphas: Mapping[str, float]
    """Exceptions by pattern of module name; the first that matches counts."""

    def adapts(self, module: str) -> bool:
        """Whether it has weights for a linear module of the base model."""
        return _is_meant(self.targets, module)

    def rank_of(self, module: str) -> int:
        return _by_pattern(self.ranks, module, self.rank)

    def scale_of(self, module: str) -> float:
        rank, alpha = self.rank_of(module), _by_pattern(self.alphas, module, self.alpha)
        return alpha / math.sqrt(rank) if self.is_rank_stabilised else alpha / rank

    def shapes(self, module: str, shape: tuple[int, int]) -> dict[str, tuple[int, ...]]:
        """Of its weights for a module of that `shape`, by name in the file."""
        (outputs, inputs), rank = shape, self.rank_of(module)
        magnitude = {_name(module, "lora_magnitude_vector"): (outputs,)} if self.has_magnitudes else {}
        return {
            _name(module, "lora_A.weight"): (rank, inputs),
            _name(module, "lora_B.weight"): (outputs, rank),
            **magnitude,
        }

    def change(self, module: str, weights: Mapping[str, torch.Tensor]) -> Change:
        return LowRank(
            down=weights[_name(module, "lora_A.weight")],
            up=weights[_name(module, "lora_B.weight")],
            scale=self.scale_of(module),
            magnitude=weights[_name(module, "lora_magnitude_vector")] if self.has_magnitudes else None,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Ia3:
    path: Path
    targets: tuple[str, ...]
    scaled_inputs: tuple[str, ...]
    """Those of the targets whose inputs are scaled, not their outputs."""

    def adapts(self, module: str) -> bool:
        return _is_meant(self.targets, module)

    def shapes(self, module: str, shape: tuple[int, int]) -> dict[str, tuple[int, ...]]:
        outputs, inputs = shape
        return {_name(module, "ia3_l"): (1, inputs) if _is_meant(self.scaled_inputs, module) else (outputs, 1)}

    def change(self, module: str, weights: Mapping[str, torch.Tensor]) -> Change:
        return Scaling(factors=weights[_name(module, "ia3_l")])


Adapter = Lora | Ia3


def read_adapter(path: Path) -> Adapter:
    """Raises ModelError when `path` isn't an adapter of a kind that can be merged."""
    config = _read_config(path / _CONFIG)
    if not (path / _WEIGHTS).is_file():
        raise ModelError(f"{path}: has no {_WEIGHTS}; only safetensors are read")
    _check_known(path / _CONFIG, config)
    try:
        return _ia3(path, config) if config["peft_type"] == "IA3" else _lora(path, config)
    except (KeyError, TypeError, ValueError, OverflowError, AttributeError) as error:
        raise ModelError(f"{path / _CONFIG}: is not an adapter configuration ({error!r}); train it again") from error


def read_changes(adapter: Adapter, shapes: Mapping[str, tuple[int, int]]) -> dict[str, Change]:
    """By module. `shapes` has the (outputs, inputs) of every linear module that the base model has.

    Raises one of MISFITS unless the adapter has exactly the weights that its configuration announces: a training run
    that saved half of them must not be served as if it were whole.
    """
    modules = [module for module in shapes if adapter.adapts(module)]
    if not modules:
        raise ValueError("it adapts no module of it")
    expected = {name: shape for module in modules for name, shape in adapter.shapes(module, shapes[module]).items()}
    weights = load_file(adapter.path / _WEIGHTS)
    refuse_other_weights(weights, expected)
    return {module: adapter.change(module, weights) for module in modules}


def refuse_other_weights(weights: Mapping[str, torch.Tensor], expected: Mapping[str, tuple[int, ...]]) -> None:
    """Raises ValueError unless names and shapes are the expected ones."""
    wrong = sorted(weights.keys() ^ expected.keys())
    wrong = wrong or sorted(name for name, shape in expected.items() if tuple(weights[name].shape) != tuple(shape))
    if wrong:
        raise ValueError(f"{len(wrong)} of its weights are missing, unknown or of another shape, {wrong[0]} first")


def misfit(path: Path, error: Exception) -> ModelError:
    reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
    return ModelError(f"{path}: doesn't fit the base model ({reason}); train it again")


def merged_by_peft(module: Any, adapter: Adapter) -> Any:
    """For models that only transformers knows. Raises one of MISFITS.

    Not by `PeftModel.from_pretrained`, which only warns when weights are missing, and falls back to pickles.
    """
    # Imported here: it takes as long as all else the engine needs (2 of 4.5 s), and few models need it.
    from peft import PeftConfig, get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict

    config = PeftConfig.from_pretrained(str(adapter.path))
    config.base_model_name_or_path = None  # the trainer's place on disk; the base model's digest was compared instead
    with warnings.catch_warnings():
        # peft 0.21 asks transformers 5 for an attribute under its old name; nobody who uses Homespun can do anything.
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
        adapted = get_peft_model(module, config)
    weights = load_file(adapter.path / _WEIGHTS)
    expected = get_peft_model_state_dict(adapted)
    refuse_other_weights(weights, {name: tuple(tensor.shape) for name, tensor in expected.items()})
    set_peft_model_state_dict(adapted, weights)
    return adapted.merge_and_unload(safe_merge=True)


def _lora(path: Path, config: Mapping[str, Any]) -> Lora:
    return Lora(
        path=path,
        rank=_positive(int(config["r"])),
        alpha=float(config["lora_alpha"]),
        is_rank_stabilised=bool(config.get("use_rslora")),
        has_magnitudes=bool(config.get("use_dora")),
        targets=_names(config["target_modules"]),
        ranks={str(key): _positive(int(rank)) for key, rank in (config.get("rank_pattern") or {}).items()},
        alphas={str(key): float(alpha) for key, alpha in (config.get("alpha_pattern") or {}).items()},
    )


def _ia3(path: Path, config: Mapping[str, Any]) -> Ia3:
    return Ia3(
        path=path,
        targets=_names(config["target_modules"]),
        scaled_inputs=_names(config.get("feedforward_modules") or []),
    )


def _name(module: str, part: str) -> str:
    return f"base_model.model.{module}.{part}"


def _is_meant(targets: Sequence[str], module: str) -> bool:
    if tuple(targets) == (_ALL_LINEAR,):
        return module != "lm_head"
    return any(module == target or module.endswith(f".{target}") for target in targets)


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


def _check_known(path: Path, config: Mapping[str, Any]) -> None:
    """peft adds a key for every variant: those we don't know must say nothing."""
    kind = config.get("peft_type")
    if not isinstance(kind, str) or kind not in _KNOWN:
        raise ModelError(f"{path}: peft_type is {kind!r}; only {_SERVED}")
    for key, value in config.items():
        if key not in _READ[kind] | _INERT and value not in _KNOWN[kind].get(key, _SILENT):
            raise ModelError(f"{path}: {key} is {value!r}; only plain {_SERVED}")


def _read_config(path: Path) -> dict[str, Any]:
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{path}: unreadable ({error})") from error
    if not isinstance(config, dict):
        raise ModelError(f"{path}: is not an adapter configuration")
    return config
