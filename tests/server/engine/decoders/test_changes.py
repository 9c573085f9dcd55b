"""Adapters of every kind that is merged, against peft's own forward, in which nothing is merged."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest
import torch
from peft import IA3Config, LoraConfig, PeftConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file

from homespun_core.errors import ModelError
from homespun_server.engine.decoders.protocol import Segment
from homespun_server.engine.decoders.source import open_source
from tests.server.engine.decoders.tiny import reference, save

IDS = [5, 9, 2, 33, 7, 7, 12, 60, 1, 4]
CONFIGS: dict[str, PeftConfig] = {
    "lora": LoraConfig(r=4, lora_alpha=8, target_modules="all-linear"),
    "rslora": LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", use_rslora=True),
    "dora": LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", use_dora=True),
    "dora, some": LoraConfig(r=2, lora_alpha=8, target_modules=["q_proj", "down_proj", "c_proj"], use_dora=True),
    "ia3": IA3Config(target_modules=["k_proj", "v_proj", "down_proj"], feedforward_modules=["down_proj"]),
    "ia3, outputs": IA3Config(target_modules=["q_proj", "o_proj", "up_proj"], feedforward_modules=[]),
}
FAMILIES = ("llama", "llama-biased", "qwen2", "stablelm")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("models")
    return {family: save(family, root / family) for family in FAMILIES}


def write_adapter(model: Path, config: PeftConfig, path: Path) -> Path:
    torch.manual_seed(3)
    adapted = get_peft_model(reference(model), copy.deepcopy(config))  # peft writes into it
    with torch.no_grad():
        for name, weights in adapted.named_parameters():
            if "lora_A" in name or "lora_B" in name:
                weights.normal_(std=0.3)
            elif weights.requires_grad:
                weights.mul_(1 + 0.5 * torch.rand_like(weights))
    adapted.save_pretrained(str(path))
    return path


def served_logits(model: Path, adapter: Path) -> torch.Tensor:
    decoder = open_source(model, "float32", "cpu").decoder(adapter)
    [logits] = decoder.forward([Segment(kv=decoder.new_kv(), ids=IDS, num_rows=len(IDS))])
    return logits


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("kind", CONFIGS)
def test_merged_it_computes_what_peft_computes_unmerged(
    models: dict[str, Path], tmp_path: Path, family: str, kind: str
) -> None:
    model = models[family]
    path = write_adapter(model, CONFIGS[kind], tmp_path / "a")
    with torch.inference_mode():
        base = reference(model)(input_ids=torch.tensor([IDS])).logits[0]
        expected = PeftModel.from_pretrained(reference(model), str(path)).eval()(torch.tensor([IDS])).logits[0]
    assert (expected - base).abs().max() > 0.1
    assert torch.allclose(served_logits(model, path), expected, atol=2e-4, rtol=1e-4)


@pytest.mark.parametrize("kind", ["dora", "ia3"])
def test_half_an_adapter_is_refused(models: dict[str, Path], tmp_path: Path, kind: str) -> None:
    path = write_adapter(models["llama"], CONFIGS[kind], tmp_path / "a")
    file = path / "adapter_model.safetensors"
    weights = load_file(file)
    del weights[max(weights, key=lambda name: "magnitude" in name)]
    save_file(weights, file)
    with pytest.raises(ModelError, match="missing"):
        served_logits(models["llama"], path)


def test_an_ia3_that_says_another_side_than_its_weights_have_is_refused(
    models: dict[str, Path], tmp_path: Path
) -> None:
    path = write_adapter(models["llama"], CONFIGS["ia3"], tmp_path / "a")
    file = path / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"feedforward_modules": ["k_proj"]}))
    with pytest.raises(ModelError, match="shape"):
        served_logits(models["llama"], path)
