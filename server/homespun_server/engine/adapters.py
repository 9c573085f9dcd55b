"""A LoRA directory becomes a full set of weights: the base model with the adapter merged in.

Merged, because on a small model the extra matrix products of an unmerged adapter cost 20 to 50 % of a step, and because
two sets of weights that share nothing can't leak into each other.
"""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file

from homespun_core.errors import ModelError
from homespun_server.engine.model import Decoder, ModelSource, load_module

_WEIGHTS, _CONFIG = "adapter_model.safetensors", "adapter_config.json"
_PLAIN: dict[str, tuple[object, ...]] = {
    "peft_type": ("LORA",),
    "bias": ("none", None),
    "use_dora": (False, None),
    "modules_to_save": (None, []),
}
"""What a plain LoRA says; anything else would load more than two matrices a layer, or code."""


def load_merged(source: ModelSource, path: Path) -> Decoder:
    """Raises ModelError when `path` isn't a plain LoRA for this base model."""
    _check_files(path)
    module = load_module(source.path, source.dtype)
    try:
        merged = _merged(module, path)
    except (ValueError, RuntimeError, KeyError, TypeError, OSError, SafetensorError) as error:
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise ModelError(f"{path}: doesn't fit the base model ({reason}); train it again") from error
    decoder = source.decoder(merged)
    decoder.check()
    return decoder


def _merged(module: Any, path: Path) -> Any:
    """Not by `PeftModel.from_pretrained`, which only warns when weights are missing, and falls back to pickles."""
    # Imported here: it takes as long as all else the engine needs (2 of 4.5 s), and a server starts without adapters.
    from peft import LoraConfig, get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict

    config = LoraConfig.from_pretrained(str(path))
    config.base_model_name_or_path = None  # the trainer's place on disk; the base model's digest was compared instead
    with warnings.catch_warnings():
        # peft 0.21 asks transformers 5 for an attribute under its old name; nobody who uses Homespun can do anything.
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
        adapted = get_peft_model(module, config)
    weights = load_file(path / _WEIGHTS)
    expected = get_peft_model_state_dict(adapted)
    wrong = sorted(weights.keys() ^ expected.keys()) or [n for n in expected if expected[n].shape != weights[n].shape]
    if wrong:
        raise ValueError(f"{len(wrong)} of its weights are missing, unknown or of another shape, {wrong[0]} first")
    set_peft_model_state_dict(adapted, weights)
    return adapted.merge_and_unload(safe_merge=True)


def _check_files(path: Path) -> None:
    config = _read_config(path / _CONFIG)
    if not (path / _WEIGHTS).is_file():
        raise ModelError(f"{path}: has no {_WEIGHTS}; only safetensors are read")
    for key, allowed in _PLAIN.items():
        if config.get(key) not in allowed:
            raise ModelError(f"{path / _CONFIG}: {key} is {config.get(key)!r}; only plain LoRA adapters are served")


def _read_config(path: Path) -> dict[str, Any]:
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{path}: unreadable ({error})") from error
    if not isinstance(config, dict):
        raise ModelError(f"{path}: is not an adapter configuration")
    return config
