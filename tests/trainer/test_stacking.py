from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file

from homespun_core.errors import ModelError
from homespun_core.types import ModelFiles, SilentProgress
from homespun_server.engine.decoders.protocol import Segment
from homespun_server.engine.decoders.source import open_source
from homespun_trainer.lora import load_base
from homespun_trainer.stacking import compose, merge_into, read_plain_lora
from homespun_trainer.train import train_adapter
from tests.trainer.tiny import CPU, StepClock, make_model, make_stream, recipe

IDS = list(b"def load(self):\n    return self.session.fetch")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> ModelFiles:
    return make_model(tmp_path_factory.mktemp("model"))


@pytest.fixture
def pair(files: ModelFiles, tmp_path: Path) -> tuple[Path, Path]:
    """Of other ranks, scales and modules; one of them rank-stabilised."""
    first = LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj", "v_proj", "down_proj"])
    second = LoraConfig(r=9, lora_alpha=3, target_modules=["q_proj", "up_proj"], use_rslora=True)
    return write(files, first, tmp_path / "first", 1), write(files, second, tmp_path / "second", 2)


def write(files: ModelFiles, config: LoraConfig, path: Path, seed: int) -> Path:
    torch.manual_seed(seed)
    adapted = get_peft_model(load_base(files, CPU), config)
    with torch.no_grad():
        for name, weights in adapted.named_parameters():
            if "lora_" in name:
                weights.normal_(std=0.2)
    adapted.save_pretrained(str(path))
    return path


@torch.inference_mode()
def peft_logits(files: ModelFiles, *paths: Path) -> torch.Tensor:
    model: Any = PeftModel.from_pretrained(load_base(files, CPU), str(paths[0]), adapter_name="0")
    for number, path in enumerate(paths[1:], 1):
        model.load_adapter(str(path), adapter_name=str(number))
    model.base_model.set_adapter([str(number) for number in range(len(paths))])
    logits: torch.Tensor = model.eval()(input_ids=torch.tensor([IDS])).logits[0]
    return logits


def served_logits(files: ModelFiles, path: Path) -> torch.Tensor:
    decoder = open_source(Path(files.path), "float32", "cpu").decoder(path)
    [logits] = decoder.forward([Segment(kv=decoder.new_kv(), ids=IDS, num_rows=len(IDS))])
    return logits


def test_a_composed_adapter_computes_what_the_two_compute_together(
    files: ModelFiles, pair: tuple[Path, Path], tmp_path: Path
) -> None:
    compose(pair, tmp_path / "both", "tiny")
    together = peft_logits(files, *pair)
    assert all((together - peft_logits(files, one)).abs().max() > 0.1 for one in pair)
    assert torch.allclose(peft_logits(files, tmp_path / "both"), together, atol=1e-3)
    assert torch.allclose(served_logits(files, tmp_path / "both"), together, atol=1e-3)


def test_merged_into_the_base_it_computes_what_peft_computes(files: ModelFiles, pair: tuple[Path, Path]) -> None:
    base = load_base(files, CPU)
    merge_into(base, read_plain_lora(pair[1]))
    with torch.inference_mode():
        logits = base(input_ids=torch.tensor([IDS])).logits[0]
    assert torch.allclose(logits, peft_logits(files, pair[1]), atol=1e-3)


def test_trained_on_top_of_another_the_result_has_both(
    files: ModelFiles, pair: tuple[Path, Path], tmp_path: Path
) -> None:
    result = train_adapter(
        files,
        make_stream(),
        [],
        recipe(minutes=0.3),
        placement=CPU,
        run=tmp_path / "run",
        fingerprint="f",
        progress=SilentProgress(),
        should_stop=lambda: False,
        clock=StepClock(),
        parent=pair[0],
    )
    assert torch.allclose(
        served_logits(files, result.path), peft_logits(files, pair[0], tmp_path / "run" / "adapter"), atol=2e-3
    )
    assert read_plain_lora(result.path).rank == 4 + 8


def _configured(**changes: object) -> Callable[[Path], object]:
    def change(path: Path) -> None:
        file = path / "adapter_config.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | changes))

    return change


def _half(path: Path) -> None:
    weights = load_file(path / "adapter_model.safetensors")
    del weights[next(iter(weights))]
    save_file(weights, path / "adapter_model.safetensors")


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (_configured(use_dora=True), "use_dora"),
        (_configured(peft_type="IA3"), "IA3"),
        (_configured(bias="all"), "bias"),
        (_configured(r=5), "rank 5"),
        (_configured(r=0), "rank 0"),
        (_configured(r=None), "int"),
        (_half, "pairs"),
        (lambda path: (path / "adapter_config.json").write_text("[]"), "no plain"),
        (lambda path: (path / "adapter_model.safetensors").write_bytes(b"x"), "no plain"),
        (lambda path: (path / "adapter_model.safetensors").rename(path / "adapter_model.bin"), "no plain"),
    ],
)
def test_what_cannot_be_stacked_is_refused_in_one_line(
    pair: tuple[Path, Path], damage: Callable[[Path], object], reason: str
) -> None:
    damage(pair[0])
    with pytest.raises(ModelError, match=reason) as raised:
        read_plain_lora(pair[0])
    assert "\n" not in str(raised.value)


def test_an_adapter_of_another_base_model_changes_nothing_and_is_refused(
    files: ModelFiles, pair: tuple[Path, Path], tmp_path: Path
) -> None:
    file = pair[0] / "adapter_model.safetensors"
    save_file({name.replace("layers.1", "layers.9"): t for name, t in load_file(file).items()}, file)
    base = load_base(files, CPU)
    before = {name: p.clone() for name, p in base.named_parameters()}
    with pytest.raises(ModelError, match="another one"):
        merge_into(base, read_plain_lora(pair[0]))
    assert all(torch.equal(p, before[name]) for name, p in base.named_parameters())
