"""Every kind of adapter, from training to the engine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel

from homespun_core.config import METHODS
from homespun_core.errors import ModelError
from homespun_core.types import ModelFiles, SilentProgress
from homespun_server.engine.decoders.protocol import Segment
from homespun_server.engine.decoders.source import open_source
from homespun_trainer.lora import attach, load_base
from homespun_trainer.methods import peft_config
from homespun_trainer.train import TrainResult, train_adapter
from tests.trainer.tiny import CPU, StepClock, make_model, make_stream, recipe

IDS = list(b"def load(self):\n    return self.session.fetch")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> ModelFiles:
    return make_model(tmp_path_factory.mktemp("model"))


def trained(files: ModelFiles, run: Path, method: str, should_stop: Any = lambda: False) -> TrainResult:
    return train_adapter(
        files,
        make_stream(),
        [],
        recipe(minutes=0.5, method=method),
        placement=CPU,
        run=run,
        fingerprint=method,
        progress=SilentProgress(),
        should_stop=should_stop,
        clock=StepClock(),
    )


@pytest.mark.parametrize("method", METHODS)
def test_trained_and_served_it_computes_what_peft_computes(files: ModelFiles, tmp_path: Path, method: str) -> None:
    result = trained(files, tmp_path, method)
    losses = [loss for _, _, loss in result.state.losses]
    assert sum(losses[-5:]) < sum(losses[:5])
    decoder = open_source(Path(files.path), "float32", "cpu").decoder(result.path)
    [logits] = decoder.forward([Segment(kv=decoder.new_kv(), ids=IDS, num_rows=len(IDS))])
    with torch.inference_mode():
        base = load_base(files, CPU)(input_ids=torch.tensor([IDS])).logits[0]
        adapted = PeftModel.from_pretrained(load_base(files, CPU), str(result.path)).eval()
        expected = adapted(input_ids=torch.tensor([IDS])).logits[0]
    assert (expected - base).abs().max() > 0.05
    assert torch.allclose(logits, expected, atol=2e-3)


@pytest.mark.parametrize("method", METHODS)
def test_a_new_adapter_changes_nothing(files: ModelFiles, method: str) -> None:
    base = load_base(files, CPU)
    with torch.inference_mode():
        before = base(input_ids=torch.tensor([IDS])).logits
        adapted = attach(base, peft_config(method, 4, base)).eval()
        assert torch.allclose(adapted(input_ids=torch.tensor([IDS])).logits, before, atol=1e-4)


def test_a_model_that_a_method_does_not_know_is_refused_in_one_line(files: ModelFiles) -> None:
    base = load_base(files, CPU)
    base.config.model_type = "stablelm"
    with pytest.raises(ModelError, match=r"^method: .*stablelm.*--method lora$") as raised:
        attach(base, peft_config("adaption-prompt", 4, base))
    assert "\n" not in str(raised.value)
