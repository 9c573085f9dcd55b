"""Whether a directory is a LoRA that a vLLM server may be given, and the name it goes by there. Without torch.

Checked here, because vLLM has crashed on adapters that don't fit (vllm-project/vllm#11702).
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from homespun_core.errors import ModelError

_WEIGHTS, _CONFIG = "adapter_model.safetensors", "adapter_config.json"
_PLAIN: dict[str, tuple[object, ...]] = {
    "peft_type": ("LORA",),
    "bias": ("none", None),
    "use_dora": (False, None),
    "lora_bias": (False, None),
    "fan_in_fan_out": (False, None),
    "modules_to_save": (None, []),
    "trainable_token_indices": (None, [], {}),
    "rank_pattern": (None, {}),
    "alpha_pattern": (None, {}),
    "init_lora_weights": (True, False, None, "gaussian", "orthogonal"),  # others change the base model
}
"""What a plain LoRA says. Of anything else vLLM ignores a part, and the numbers are other ones than the trainer's."""
_NAME = re.compile(r"base_model\.model\.(?P<module>.+)\.lora_(?P<side>[AB])\.weight")
_MAX_HEADER = 100_000_000

Shapes = Mapping[str, tuple[int, ...]]


def served_name(path: Path) -> str:
    """Never the same for other weights, nor for another place: vLLM keys its cache by name and place, and reads the
    place again after it has evicted the weights. Opaque, since vLLM tells its adapters' names to anyone.

    Raises ModelError.
    """
    digest = hashlib.sha256(str(path).encode())
    for name in (_CONFIG, _WEIGHTS):
        try:
            with (path / name).open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
        except OSError as error:
            raise ModelError(f"{path / name}: unreadable ({error.strerror}); only safetensors are read") from error
    return f"homespun-{digest.hexdigest()[:16]}"


def check_lora(path: Path, base: Path | None) -> None:
    """Raises ModelError unless `path` is a plain LoRA, and one for the base model at `base` if that is known."""
    config = _read_config(path / _CONFIG)
    for key, allowed in _PLAIN.items():
        if config.get(key) not in allowed:
            raise ModelError(f"{path / _CONFIG}: {key} is {config.get(key)!r}; only plain LoRA adapters are served")
    if not (path / _WEIGHTS).is_file():
        raise ModelError(f"{path}: has no {_WEIGHTS}; only safetensors are read")
    modules = _base_shapes(base) if base is not None else None
    problem = misfit(read_shapes(path / _WEIGHTS), config.get("r"), modules)
    if problem is not None:
        raise ModelError(f"{path}: doesn't fit the base model ({problem}); train it again")


def misfit(lora: Shapes, rank: object, base: Shapes | None) -> str | None:
    """What is wrong with a LoRA's weights: pairs of A [rank, in] and B [out, rank] for weights [out, in] of the base
    model. Pure.
    """
    pairs: dict[str, dict[str, tuple[int, ...]]] = {}
    for name, shape in lora.items():
        match = _NAME.fullmatch(name)
        if match is None or len(shape) != 2:
            return f"{name} of shape {list(shape)} is not a matrix of a plain LoRA"
        pairs.setdefault(match["module"], {})[match["side"]] = shape
    if not pairs:
        return "it has no weights"
    for module, sides in pairs.items():
        if sides.keys() != {"A", "B"}:
            return f"half of {module} is missing"
        (rows, width), (height, columns) = sides["A"], sides["B"]
        if not rows == columns == rank:
            return f"{module} has rank {rows} and {columns}, its configuration says {rank}"
        if base is not None and base.get(f"{module}.weight") != (height, width):
            return f"{module} of shape {[height, width]} is not in it"
    return None


def read_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Shapes in the header of a safetensors file: eight bytes with its length, then JSON. Raises ModelError."""
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(length)) if length < _MAX_HEADER else None
        shapes = {str(name): tuple(map(int, item["shape"])) for name, item in _tensors(header)}
        end = max((item["data_offsets"][1] for _, item in _tensors(header)), default=0)
        if path.stat().st_size != 8 + length + end:
            raise ValueError("it is cut off")
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise ModelError(f"{path}: is not a safetensors file ({type(error).__name__})") from error
    return shapes


def _tensors(header: Any) -> Iterator[tuple[str, Any]]:
    return ((name, item) for name, item in header.items() if name != "__metadata__")


def _base_shapes(base: Path) -> dict[str, tuple[int, ...]]:
    return {name: shape for file in sorted(base.glob("*.safetensors")) for name, shape in read_shapes(file).items()}


def _read_config(path: Path) -> dict[str, Any]:
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{path}: unreadable ({error})") from error
    if not isinstance(config, dict):
        raise ModelError(f"{path}: is not an adapter configuration")
    return config
