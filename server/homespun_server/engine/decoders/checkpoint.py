"""The files of a model directory: its configuration and its tensors, one at a time."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from homespun_core.errors import ModelError

_WHOLE, _INDEX = "model.safetensors", "model.safetensors.index.json"
_FORMATS = frozenset({torch.float32, torch.float16, torch.bfloat16})


def read_config(path: Path) -> dict[str, Any]:
    """config.json of the model at `path`. Raises ModelError."""
    return _read_json(path / "config.json")


class Tensors:
    """The tensors of a model directory, mapped into memory; only safetensors are read.

    Raises ModelError where a file is missing, damaged or not what the index says.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._files: dict[str, Any] = {}
        self._places = self._whole() if (path / _WHOLE).is_file() else self._shards()

    @property
    def names(self) -> frozenset[str]:
        return frozenset(self._places)

    def get(self, name: str, shape: tuple[int, ...]) -> torch.Tensor:
        """As it is stored. It may be the mapped file itself, so it must be copied to be kept."""
        if name not in self._places:
            raise ModelError(f"base_model: {self._path} has no weights {name}; download it again")
        try:
            tensor: torch.Tensor = self._file(self._places[name]).get_tensor(name)
        except SafetensorError as error:
            raise self._damaged(name, error) from error
        if tuple(tensor.shape) != shape or tensor.dtype not in _FORMATS:
            found = f"{tensor.dtype} {tuple(tensor.shape)}"
            raise ModelError(f"base_model: {self._path} has {name} as {found}, not {shape}; download it again")
        return tensor

    def _whole(self) -> dict[str, str]:
        return dict.fromkeys(self._file(_WHOLE).keys(), _WHOLE)

    def _shards(self) -> dict[str, str]:
        if not (self._path / _INDEX).is_file():
            raise ModelError(f"base_model: {self._path} has no {_WHOLE}; only safetensors are read")
        places = _read_json(self._path / _INDEX).get("weight_map")
        if not isinstance(places, dict) or any(not _is_file_name(place) for place in places.values()):
            raise ModelError(f"base_model: {self._path / _INDEX} names no files beside it; download it again")
        return {str(name): str(place) for name, place in places.items()}

    def _file(self, name: str) -> Any:
        if name not in self._files:
            try:
                self._files[name] = safe_open(self._path / name, framework="pt")
            except (OSError, SafetensorError) as error:
                raise self._damaged(name, error) from error
        return self._files[name]

    def _damaged(self, name: str, error: Exception) -> ModelError:
        return ModelError(f"base_model: {self._path / name} can't be read ({error}); download it again")


def _is_file_name(place: object) -> bool:
    """An index could otherwise name any file of this machine."""
    return isinstance(place, str) and Path(place).name == place and place.endswith(".safetensors")


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"base_model: {path} can't be read ({error})") from error
    if not isinstance(content, Mapping):
        raise ModelError(f"base_model: {path} is not a configuration; download it again")
    return dict(content)
