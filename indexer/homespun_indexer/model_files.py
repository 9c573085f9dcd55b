"""From the `base_model` setting to files on disk: the built-in model, a Hugging Face directory, or a name on the
hub."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

from homespun_core.errors import ModelError
from homespun_core.types import ModelFiles

BUILTIN = "builtin"
_HUB_NAME = re.compile(r"^[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?$")
# Data only: pickled weights (*.bin) and code (*.py) are never fetched.
_HUB_FILES = ["*.json", "*.safetensors", "tokenizer.model"]
_HASH_WHOLE_BELOW = 200_000_000
_HEADER_LIMIT = 100_000_000
"""safetensors' own limit for its JSON header."""


def resolve_base_model(name: str, family: str) -> ModelFiles:
    """The model's files; a hub name is downloaded on first use. `family` is the setting, "auto" to detect.

    Raises ModelError when there is no such model, it can't be fetched, or the directory isn't a model.
    """
    path = _locate(name)
    config = _read_config(path)
    weights = sorted(path.glob("*.safetensors"))
    if not weights:
        raise ModelError(
            f"base_model: {path} has no *.safetensors file; convert the model to safetensors or choose another"
        )
    if not (path / "tokenizer.json").is_file():
        raise ModelError(
            f"base_model: {path} has no tokenizer.json; save the model with a fast tokenizer or choose another"
        )
    return ModelFiles(
        name=name,
        path=str(path),
        family=None if family == "auto" else family,
        digest=_digest(path, weights),
        config=config,
    )


def builtin_path() -> Path:
    """The model that comes with Homespun. Raises ModelError when its data package isn't installed."""
    try:
        import homespun_base_model
    except ImportError as error:
        raise ModelError(
            "base_model: the built-in model isn't installed; pip install homespun-base-model, or set base_model"
        ) from error
    return Path(homespun_base_model.PATH)


def _locate(name: str) -> Path:
    if name == BUILTIN:
        return builtin_path()
    path = Path(name).expanduser()
    if name and path.is_dir():
        return path.resolve()
    if path.exists() or not _HUB_NAME.match(name):
        raise ModelError(
            f"base_model: {name!r} is no directory and no hub name; give builtin, a directory, or owner/name"
        )
    return _download(name)


def _download(name: str) -> Path:
    # Imported here: it takes 0.3 s and most runs never need it.
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, RepositoryNotFoundError

    try:
        return Path(snapshot_download(name, allow_patterns=_HUB_FILES))
    except RepositoryNotFoundError as error:
        raise ModelError(f"base_model: the hub has no model {name!r}, or it needs a login; check the name") from error
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
        raise ModelError(
            f"base_model: {name!r} is not on this machine and could not be downloaded ({type(error).__name__});"
            " check the network, or give the directory of a downloaded model"
        ) from error


def _read_config(path: Path) -> dict[str, object]:
    try:
        config = json.loads((path / "config.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ModelError(f"base_model: {path} is not a model directory (no config.json)") from None
    except (OSError, ValueError) as error:
        raise ModelError(f"base_model: {path / 'config.json'} can't be read ({error})") from error
    if not isinstance(config, dict):
        raise ModelError(f"base_model: {path / 'config.json'} is not a model configuration")
    return config


def _digest(path: Path, weights: list[Path]) -> str:
    """Every byte of config and tokenizer, and of the weights where that is quick; else their headers and sizes.

    The headers hold names, types and shapes of all tensors: enough to tell models apart, not to detect damage.
    """
    digest = hashlib.sha256()
    for name in ("config.json", "tokenizer.json"):
        _feed(digest, name, (path / name).read_bytes())
    whole = sum(w.stat().st_size for w in weights) < _HASH_WHOLE_BELOW
    for file in weights:
        _feed(digest, file.name, str(file.stat().st_size).encode())
        if whole:
            with file.open("rb") as handle:
                _feed(digest, "sha256", hashlib.file_digest(handle, "sha256").digest())
        else:
            _feed(digest, "header", _header(file))
    return digest.hexdigest()


def _feed(digest: Any, label: str, data: bytes) -> None:
    digest.update(f"{label} {len(data)}\n".encode())
    digest.update(data)


def _header(file: Path) -> bytes:
    with file.open("rb") as handle:
        start = handle.read(8)
        length = int.from_bytes(start, "little")
        if len(start) < 8 or not 0 < length <= min(_HEADER_LIMIT, file.stat().st_size - 8):
            raise ModelError(f"base_model: {file} is not a safetensors file; download it again")
        return handle.read(length)
