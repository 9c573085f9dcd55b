from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from homespun_core.errors import ModelError
from homespun_server.engine.vllm.adapters import check_lora, misfit, read_shapes, served_name

Q = "model.layers.0.self_attn.q_proj"
BASE = {f"{Q}.weight": (6, 4)}


def _lora(a: tuple[int, ...] = (2, 4), b: tuple[int, ...] = (6, 2), module: str = Q) -> dict[str, tuple[int, ...]]:
    return {f"base_model.model.{module}.lora_{side}.weight": shape for side, shape in (("A", a), ("B", b))}


def test_a_lora_of_the_base_models_shapes_fits() -> None:
    assert misfit(_lora(), 2, BASE) is None
    assert misfit(_lora(), 2, None) is None


@pytest.mark.parametrize(
    ("lora", "reason"),
    [
        ({}, "no weights"),
        (_lora() | {f"base_model.model.{Q}.lora_magnitude_vector": (6,)}, "not a matrix"),
        (_lora() | {"base_model.model.lm_head.weight": (6, 4)}, "not a matrix"),
        (dict([*_lora().items()][:1]), "half of"),
        (_lora(a=(3, 4)), "has rank 3 and 2"),
        (_lora(a=(3, 4), b=(6, 3)), "configuration says 2"),
        (_lora(a=(2, 5)), r"\[6, 5\] is not in it"),
        (_lora(module="model.layers.9.self_attn.q_proj"), "not in it"),
        (_lora(a=(2, 4, 1)), "not a matrix"),
    ],
)
def test_what_does_not_fit_is_named(lora: dict[str, tuple[int, ...]], reason: str) -> None:
    assert re.search(reason, misfit(lora, 2, BASE) or "")


def _edit_config(path: Path, **changes: object) -> None:
    file = path / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def _cut_off(path: Path) -> None:
    file = path / "adapter_model.safetensors"
    file.write_bytes(file.read_bytes()[:-1])


def _all_random(path: Path) -> None:
    file = path / "adapter_model.safetensors"
    save_file({name: torch.rand_like(tensor) for name, tensor in load_file(file).items()}, file)


def test_what_peft_writes_for_the_model_passes(
    tiny_models: dict[str, Path], tmp_path: Path, make_lora: Callable[..., Path]
) -> None:
    for name in ("llama", "qwen2", "starcoder2"):
        path = make_lora(tiny_models[name], tmp_path / name)
        check_lora(path, tiny_models[name])
        shapes = read_shapes(path / "adapter_model.safetensors")
        assert shapes == {n: tuple(t.shape) for n, t in load_file(path / "adapter_model.safetensors").items()}


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda path: (path / "adapter_model.safetensors").rename(path / "adapter_model.bin"), "only safetensors"),
        (lambda path: _edit_config(path, use_dora=True), "use_dora"),
        (lambda path: _edit_config(path, modules_to_save=["lm_head"]), "modules_to_save"),
        (lambda path: _edit_config(path, alpha_pattern={"q_proj": 4}), "alpha_pattern"),
        (lambda path: _edit_config(path, peft_type="IA3"), "peft_type"),
        (lambda path: _edit_config(path, r=2), "rank 4"),
        (lambda path: (path / "adapter_config.json").write_text("[]"), "not an adapter"),
        (lambda path: (path / "adapter_config.json").unlink(), "unreadable"),
        (lambda path: (path / "adapter_model.safetensors").write_bytes(b"nothing"), "not a safetensors"),
        (_cut_off, "not a safetensors"),
    ],
)
def test_anything_but_a_plain_lora_is_refused_in_one_line(
    tiny_models: dict[str, Path],
    tmp_path: Path,
    make_lora: Callable[..., Path],
    damage: Callable[[Path], object],
    reason: str,
) -> None:
    path = make_lora(tiny_models["llama"], tmp_path / "a")
    damage(path)
    with pytest.raises(ModelError, match=reason) as refused:
        check_lora(path, tiny_models["llama"])
    assert "\n" not in str(refused.value)


def test_a_lora_for_another_model_is_refused(
    tiny_models: dict[str, Path], tmp_path: Path, make_lora: Callable[..., Path]
) -> None:
    with pytest.raises(ModelError, match="doesn't fit the base model"):
        check_lora(make_lora(tiny_models["llama"], tmp_path / "a"), tmp_path)


@pytest.mark.parametrize("change", [_all_random, lambda path: _edit_config(path, lora_alpha=99)])
def test_other_weights_never_have_the_same_name(
    tiny_models: dict[str, Path], tmp_path: Path, make_lora: Callable[..., Path], change: Callable[[Path], object]
) -> None:
    path = make_lora(tiny_models["llama"], tmp_path / "a")
    name = served_name(path)
    assert served_name(path) == name
    change(path)
    changed = served_name(path)
    assert len({name, changed, served_name(path.rename(tmp_path / "b"))}) == 3
