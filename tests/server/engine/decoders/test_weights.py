from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file

from homespun_core.errors import ModelError
from homespun_server.engine.decoders.families import architecture_of
from homespun_server.engine.decoders.protocol import Segment
from homespun_server.engine.decoders.source import open_source
from homespun_server.engine.decoders.weights import Weights, has_known_weights, load_weights
from tests.server.engine.decoders.tiny import all_logits, reference, save

IDS = [5, 9, 2, 33, 7, 7, 12, 60, 1, 4]
WHOLE, INDEX = "model.safetensors", "model.safetensors.index.json"
ATTENTION = ["q_proj", "k_proj", "v_proj", "o_proj"]


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save("llama", tmp_path_factory.mktemp("models") / "llama")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """One to be damaged."""
    return save("llama", tmp_path / "model")


def _load(path: Path, adapter: Path | None = None, dtype: torch.dtype = torch.float32) -> Weights:
    architecture = architecture_of(json.loads((path / "config.json").read_text()))
    assert architecture is not None
    return load_weights(path, architecture, adapter, dtype)


def _logits(path: Path, adapter: Path | None = None) -> torch.Tensor:
    source = open_source(path, "float32", "cpu")
    assert source.architecture is not None
    decoder = source.decoder(adapter)
    [logits] = decoder.forward([Segment(kv=decoder.new_kv(), ids=IDS, num_rows=len(IDS))])
    return logits


def _edit_json(file: Path, **changes: object) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def _edit_tensors(file: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    tensors = load_file(file)
    change(tensors)
    save_file(tensors, file, metadata={"format": "pt"})


def test_rows_are_fused_in_order(llama: Path) -> None:
    weights, state = _load(llama), reference(llama).state_dict()
    layer, at = weights.layers[1], "model.layers.1."
    qkv = [state[f"{at}self_attn.{side}_proj.weight"] for side in "qkv"]
    assert torch.equal(layer.qkv, torch.cat(qkv))
    assert torch.equal(layer.up, torch.cat([state[f"{at}mlp.{name}_proj.weight"] for name in ("gate", "up")]))
    assert layer.qkv_bias is None and layer.q_norm is None
    assert weights.cos.shape == weights.sin.shape == (256, 4)
    assert torch.equal(weights.head, state["lm_head.weight"])


def test_a_tied_head_is_the_embedding_itself(tmp_path: Path) -> None:
    weights = _load(save("llama-tied", tmp_path / "model"))
    assert weights.head is weights.embedding


def test_matrices_have_the_format_asked_for_and_norms_are_float32(tmp_path: Path) -> None:
    weights = _load(save("gemma", tmp_path / "model"), dtype=torch.bfloat16)
    layer = weights.layers[0]
    assert {layer.qkv.dtype, layer.up.dtype, weights.embedding.dtype} == {torch.bfloat16}
    assert {layer.attention_norm.dtype, weights.norm.dtype, weights.cos.dtype} == {torch.float32}


def test_weights_outlive_their_file(model: Path) -> None:
    """A view of the mapped file would change with it, or end the process when the file gets shorter."""
    weights = _load(model)
    before = weights.layers[0].out.clone(), weights.norm.clone()
    with (model / WHOLE).open("r+b") as file:
        file.seek(2000)
        file.write(b"\xff" * 20_000)
    assert torch.equal(weights.layers[0].out, before[0]) and torch.equal(weights.norm, before[1])


@pytest.mark.parametrize("name", ["llama", "llama-llama3", "llama-yarn", "llama-linear"])
def test_a_rotation_said_in_the_old_way_is_the_same(tmp_path: Path, name: str) -> None:
    path = save(name, tmp_path / "model")
    expected, config = _load(path), json.loads((path / "config.json").read_text())
    rope = config.pop("rope_parameters")
    theta, kind = rope.pop("rope_theta"), rope.pop("rope_type")
    config |= {"rope_theta": theta, "rope_scaling": None if kind == "default" else {"type": kind, **rope}}
    (path / "config.json").write_text(json.dumps(config))
    found = _load(path)
    assert torch.equal(found.cos, expected.cos) and torch.equal(found.sin, expected.sin)


def test_shards_are_found_through_their_index(llama: Path, tmp_path: Path) -> None:
    path = tmp_path / "sharded"
    reference(llama).save_pretrained(path, max_shard_size="20KB")
    assert (path / INDEX).is_file() and not (path / WHOLE).exists()
    assert torch.equal(_logits(path), _logits(llama))


@pytest.mark.parametrize("is_equal", [True, False])
def test_a_head_that_differs_from_the_embedding_is_not_tied_to_it(tmp_path: Path, is_equal: bool) -> None:
    """Whatever config.json says: as transformers does it."""
    path = save("llama-tied", tmp_path / "model")

    def add_head(tensors: dict[str, torch.Tensor]) -> None:
        embedding = tensors["model.embed_tokens.weight"]
        tensors["lm_head.weight"] = embedding.clone() if is_equal else embedding.flip(0).contiguous()

    _edit_tensors(path / WHOLE, add_head)
    weights = _load(path)
    assert (weights.head is weights.embedding) == is_equal
    torch.testing.assert_close(_logits(path), all_logits(reference(path), IDS), atol=1e-4, rtol=1e-4)


def test_what_old_files_store_besides_weights_is_ignored(model: Path) -> None:
    expected = _logits(model)
    name = "model.layers.0.self_attn.rotary_emb.inv_freq"
    _edit_tensors(model / WHOLE, lambda tensors: tensors.update({name: torch.ones(4)}))
    assert torch.equal(_logits(model), expected)


def test_weights_that_the_family_does_not_have_leave_the_model_to_transformers(model: Path) -> None:
    architecture = architecture_of(json.loads((model / "config.json").read_text()))
    assert architecture is not None and has_known_weights(model, architecture)
    bias = {"model.layers.0.self_attn.q_proj.bias": torch.ones(32)}
    _edit_tensors(model / WHOLE, lambda tensors: tensors.update(bias))
    assert not has_known_weights(model, architecture)


def _pickle_only(path: Path) -> None:
    (path / WHOLE).rename(path / "pytorch_model.bin")


def _cut_off(path: Path) -> None:
    (path / WHOLE).write_bytes((path / WHOLE).read_bytes()[:-100])


def _drop_norm(path: Path) -> None:
    _edit_tensors(path / WHOLE, lambda tensors: tensors.pop("model.norm.weight"))


def _as_integers(path: Path) -> None:
    norm = {"model.norm.weight": torch.ones(32, dtype=torch.int8)}
    _edit_tensors(path / WHOLE, lambda tensors: tensors.update(norm))


def _index_elsewhere(path: Path) -> None:
    (path / WHOLE).rename(path.parent / "elsewhere.safetensors")
    (path / INDEX).write_text(json.dumps({"weight_map": {"model.norm.weight": "../elsewhere.safetensors"}}))


def _index_of_nothing(path: Path) -> None:
    (path / WHOLE).unlink()
    (path / INDEX).write_text(json.dumps({"weight_map": {"model.embed_tokens.weight": "absent.safetensors"}}))


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (_pickle_only, "only safetensors"),
        (_cut_off, "can't be read"),
        (_drop_norm, r"no weights model\.norm"),
        (_as_integers, "int8"),
        (_index_elsewhere, "no files beside it"),
        (_index_of_nothing, "can't be read"),
        (lambda path: (path / WHOLE).write_bytes(b"nothing"), "can't be read"),
        (lambda path: (path / "config.json").write_text("[]"), "not a configuration"),
        (lambda path: _edit_json(path / "config.json", intermediate_size=49), "download it again"),
    ],
)
def test_damaged_models_are_refused_in_one_line(model: Path, damage: Callable[[Path], object], reason: str) -> None:
    architecture = architecture_of(json.loads((model / "config.json").read_text()))
    damage(model)
    changed = json.loads((model / "config.json").read_text())
    if isinstance(changed, dict):
        architecture = architecture_of(changed)
    assert architecture is not None
    with pytest.raises(ModelError, match=reason) as raised:
        load_weights(model, architecture, None, torch.float32)
    assert "\n" not in str(raised.value)


# Adapters.


def _lora(base: Path, path: Path, *, strength: float = 0.3, **options: Any) -> Path:
    torch.manual_seed(1)
    config: dict[str, Any] = {"r": 4, "lora_alpha": 8, "target_modules": ATTENTION, "task_type": "CAUSAL_LM"}
    adapted = get_peft_model(reference(base), LoraConfig(**(config | options)))
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "lora_" in name:
                parameter.normal_(std=strength)
    adapted.save_pretrained(str(path))
    return path


@pytest.mark.parametrize("name", ["llama", "llama-tied", "llama-biased", "qwen3", "starcoder2", "gemma"])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"target_modules": "all-linear"},
        {"target_modules": ["model.layers.1.self_attn.v_proj", "nothing"]},
        {"use_rslora": True},
        {"rank_pattern": {"q_proj": 2, "layers.1.self_attn.v_proj": 3}, "alpha_pattern": {"v_proj": 5.5}},
    ],
)
def test_a_merged_adapter_is_what_peft_makes_of_it(tmp_path: Path, name: str, options: dict[str, Any]) -> None:
    base = save(name, tmp_path / "base")
    path = _lora(base, tmp_path / "lora", **options)
    module: Any = PeftModel.from_pretrained(reference(base), str(path)).merge_and_unload()
    expected = all_logits(module.eval(), IDS)
    torch.testing.assert_close(_logits(base, path), expected, atol=1e-4, rtol=1e-4)
    assert not torch.allclose(expected, all_logits(reference(base), IDS), atol=1e-2)


def test_the_merged_matrix_is_exact_to_float32(llama: Path, tmp_path: Path) -> None:
    path = _lora(llama, tmp_path / "lora", target_modules=["o_proj"], use_rslora=True)
    low = load_file(path / "adapter_model.safetensors")
    at = "base_model.model.model.layers.0.self_attn.o_proj.lora_"
    delta = 8 / math.sqrt(4) * low[f"{at}B.weight"].double() @ low[f"{at}A.weight"].double()
    expected = _load(llama).layers[0].out.double() + delta
    assert float((_load(llama, path).layers[0].out.double() - expected).abs().max()) < 1e-6


CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"


def _set(**changes: object) -> Callable[[Path], None]:
    return lambda path: _edit_json(path / CONFIG, **changes)


def _without(key: str) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        config = json.loads((path / CONFIG).read_text())
        del config[key]
        (path / CONFIG).write_text(json.dumps(config))

    return damage


def _filled(value: float) -> Callable[[Path], None]:
    def fill(tensors: dict[str, torch.Tensor]) -> None:
        for tensor in tensors.values():
            tensor.fill_(value)

    return lambda path: _edit_tensors(path / WEIGHTS, fill)


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda path: (path / WEIGHTS).rename(path / "adapter_model.bin"), "only safetensors"),
        (lambda path: (path / WEIGHTS).write_bytes(b"nothing"), "doesn't fit"),
        (lambda path: (path / CONFIG).unlink(), "unreadable"),
        (lambda path: (path / CONFIG).write_text("[]"), "not an adapter"),
        (lambda path: _edit_tensors(path / WEIGHTS, lambda t: t.pop(min(t))), "1 of its weights are missing"),
        (lambda path: _edit_tensors(path / WEIGHTS, lambda t: t.update(more=torch.ones(1))), "unknown"),
        (_set(peft_type="IA3"), "bias is"),
        (_without("peft_type"), "peft_type"),
        (_set(use_dora=True), "missing"),
        (_set(bias="all"), "bias"),
        (_set(lora_bias=True), "lora_bias"),
        (_set(fan_in_fan_out=True), "fan_in_fan_out"),
        (_set(modules_to_save=["lm_head"]), "modules_to_save"),
        (_set(init_lora_weights="pissa"), "init_lora_weights"),
        (_set(layers_to_transform=[0]), "layers_to_transform"),
        (_set(a_variant_of_the_future=1), "a_variant_of_the_future"),
        (_set(r=2), "shape"),
        (_set(r=0), "rank 0"),
        (_without("r"), "'r'"),
        (_set(target_modules=None), "not an adapter"),
        (_set(target_modules=["nothing"]), "adapts no module"),
        (_set(target_modules=["lm_head"]), "adapts no module"),
        (_set(target_modules="(([a-z._0-9])+)+X"), "list of names"),
        (_set(target_modules=["q_proj"]), "unknown"),
        (_set(target_modules=[*ATTENTION, "up_proj"]), "missing"),
        (_set(rank_pattern={"q_proj": 3}), "shape"),
        (_filled(float("nan")), "finite"),
        (_filled(1e30), "finite"),
    ],
)
def test_what_is_not_a_plain_lora_for_this_model_is_refused_in_one_line(
    llama: Path, tmp_path: Path, damage: Callable[[Path], object], reason: str
) -> None:
    path = _lora(llama, tmp_path / "lora")
    damage(path)
    with pytest.raises(ModelError, match=reason) as raised:
        _load(llama, path)
    assert "\n" not in str(raised.value) and str(path) in str(raised.value)
