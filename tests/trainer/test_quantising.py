"""QLoRA on a CPU, with the real bitsandbytes; refused in words where it can't be."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from homespun_core.errors import ModelError
from homespun_core.types import SilentProgress
from homespun_trainer.batches import target_weight
from homespun_trainer.learner import Learner, Plan
from homespun_trainer.lora import load_base
from homespun_trainer.quantising import check_possible
from homespun_trainer.train import train_adapter
from tests.trainer.test_pipeline import corpus, make_job, run
from tests.trainer.tiny import CPU, StepClock, make_model, make_stream, recipe

needs_bitsandbytes = pytest.mark.skipif(
    importlib.util.find_spec("bitsandbytes") is None,
    reason="the extra qlora isn't there (125 MB): pip install -c constraints.txt bitsandbytes",
)


@needs_bitsandbytes
def test_an_adapter_is_trained_on_four_bits_and_fits_the_whole_model(tmp_path: Path) -> None:
    files = make_model(tmp_path / "model", hidden_size=64, intermediate_size=128)
    result = train_adapter(
        files, make_stream(), make_stream(seed=9).batch(0, 8), recipe(minutes=1.5, base_format="nf4"), placement=CPU,
        run=tmp_path / "run", fingerprint="f", progress=SilentProgress(), should_stop=lambda: False, clock=StepClock(),
    )  # fmt: skip
    losses = [loss for _, loss in result.state.dev_losses]
    assert losses[-1] < losses[0] * 0.9
    base = load_base(files, CPU, "nf4")
    linear = base.model.layers[0].mlp.down_proj.weight
    assert linear.dtype == torch.uint8 and linear.numel() * 2 == 64 * 128
    shapes = {name: tuple(w.shape) for name, w in load_file(result.path / "adapter_model.safetensors").items()}
    whole = {name: tuple(p.shape) for name, p in load_base(files, CPU).named_parameters()}
    for name, shape in shapes.items():
        module = name.removeprefix("base_model.model.").rsplit(".lora_", 1)[0] + ".weight"
        assert shape[1] == whole[module][1] if ".lora_A" in name else shape[0] == whole[module][0]


@pytest.mark.parametrize(
    ("method", "below", "why"),
    [("ia3", None, "goes with lora, rslora, dora"), ("lora", "20261128", "nothing can be merged into 4 bits")],
)
def test_what_does_not_go_together_is_refused(method: str, below: str | None, why: str) -> None:
    with pytest.raises(ModelError, match=why):
        check_possible("nf4", method, below)
    check_possible("full", method, below)


def test_without_bitsandbytes_the_remedy_is_said_before_anything_is_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ModelError, match=r"pip install 'homespun\[qlora\]'"):
        run(make_job(make_model(tmp_path / "model"), tmp_path / "data", corpus(), base_format="nf4"))


@needs_bitsandbytes
def test_after_a_look_at_held_out_examples_gradients_are_still_those_of_the_whole_model(tmp_path: Path) -> None:
    """bitsandbytes packs weights anew in evaluation, and had no gradients from then on."""
    modules, functional = (pytest.importorskip(f"bitsandbytes.{name}") for name in ("nn.modules", "functional"))
    files = make_model(tmp_path, hidden_size=64, intermediate_size=128)
    batch = make_stream().batch(0, 4)
    plan = Plan(files=files, placement=CPU, method="lora", rank=4, seed=0, parent=None, base_format="nf4")
    learner, other = Learner(plan), Learner(replace(plan, base_format="full"))
    with torch.no_grad():
        for (_, four), (_, whole) in zip(learner.model.named_modules(), other.model.named_modules(), strict=True):
            if isinstance(four, modules.Linear4bit):
                packed: Any = four.weight
                whole.weight.copy_(functional.dequantize_4bit(packed.data, packed.quant_state))
    gradients = []
    for each in (learner, other):
        each.masters.set_flat(torch.linspace(-0.2, 0.2, each.masters.flat().numel()))
        each.held_out_loss(batch)
        each.accumulate(batch, target_weight(batch))
        gradients.append(each.masters.flat_gradient())
    assert gradients[0].abs().max() > 0 and torch.allclose(gradients[0], gradients[1], atol=1e-5)
