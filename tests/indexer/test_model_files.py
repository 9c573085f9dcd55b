"""Which directories are models, and when two are the same."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from homespun_core.errors import ModelError
from homespun_indexer import model_files
from homespun_indexer.model_files import builtin_path, resolve_base_model


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A model directory with a few bytes of weights."""
    folder = tmp_path / "small"
    folder.mkdir()
    shutil.copy(builtin_path() / "tokenizer.json", folder)
    (folder / "config.json").write_text(json.dumps({"model_type": "llama"}))
    _weights(folder, b"\0" * 8)
    return folder


def _weights(folder: Path, values: bytes) -> None:
    header = json.dumps({"w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}).encode()
    (folder / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + values)


def test_builtin_is_the_model_that_is_installed() -> None:
    files = resolve_base_model("builtin", "auto")
    assert files.name == "builtin"
    assert files.family is None
    assert files.config["model_type"] == "llama"
    assert Path(files.path) == builtin_path()


def test_a_family_that_is_named_is_kept(small: Path) -> None:
    assert resolve_base_model(str(small), "starcoder2").family == "starcoder2"


def test_digest_changes_with_config_tokenizer_and_weights(small: Path) -> None:
    digests = {resolve_base_model(str(small), "auto").digest}
    assert digests == {resolve_base_model(str(small), "auto").digest}
    _weights(small, b"\1" * 8)
    digests.add(resolve_base_model(str(small), "auto").digest)
    (small / "config.json").write_text(json.dumps({"model_type": "qwen2"}))
    digests.add(resolve_base_model(str(small), "auto").digest)
    (small / "tokenizer.json").write_text((small / "tokenizer.json").read_text() + "\n")
    digests.add(resolve_base_model(str(small), "auto").digest)
    assert len(digests) == 4


def test_large_weights_are_told_apart_by_header_and_size(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_files, "_HASH_WHOLE_BELOW", 0)
    before = resolve_base_model(str(small), "auto").digest
    _weights(small, b"\1" * 8)
    assert resolve_base_model(str(small), "auto").digest == before
    _weights(small, b"\1" * 9)
    assert resolve_base_model(str(small), "auto").digest != before


def test_a_damaged_header_is_refused(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_files, "_HASH_WHOLE_BELOW", 0)
    (small / "model.safetensors").write_bytes(b"\xff" * 20)
    with pytest.raises(ModelError, match="not a safetensors file"):
        resolve_base_model(str(small), "auto")


@pytest.mark.parametrize(
    ("missing", "said"),
    [
        ("config.json", "not a model directory"),
        ("tokenizer.json", "tokenizer.json"),
        ("model.safetensors", "safetensors"),
    ],
)
def test_a_directory_that_is_no_model_is_refused(small: Path, missing: str, said: str) -> None:
    (small / missing).unlink()
    with pytest.raises(ModelError, match=said):
        resolve_base_model(str(small), "auto")


@pytest.mark.parametrize("name", ["../outside", "a/b/c", "", "-x", "https://example.com/model"])
def test_what_is_neither_directory_nor_hub_name_is_refused(name: str) -> None:
    with pytest.raises(ModelError, match="no directory and no hub name") if name else pytest.raises(ModelError):
        resolve_base_model(name, "auto")


def test_a_hub_name_offline_says_what_to_do() -> None:
    with pytest.raises(ModelError, match="could not be downloaded") as caught:
        resolve_base_model("nobody/no-such-model", "auto")
    assert "\n" not in str(caught.value)
