"""Large models recompute activations: less memory, and the same gradients."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from homespun_trainer import learner
from homespun_trainer.batches import target_weight
from homespun_trainer.learner import Learner, Plan
from homespun_trainer.sizing import measure
from tests.trainer.test_quantising import needs_bitsandbytes
from tests.trainer.tiny import CPU, make_model, make_stream


def gradients(plan: Plan, *, recomputes: bool) -> torch.Tensor:
    """After a look at held-out examples, as in training."""
    made = Learner(plan)
    assert made.model.get_base_model().is_gradient_checkpointing is recomputes
    made.masters.set_flat(torch.linspace(-0.2, 0.2, made.masters.flat().numel()))
    batch = make_stream().batch(0, 4)
    made.held_out_loss(batch)
    torch.manual_seed(7)  # for dropout
    made.accumulate(batch, target_weight(batch))
    return made.masters.flat_gradient()


@pytest.mark.parametrize("base_format", ["full", pytest.param("nf4", marks=needs_bitsandbytes)])
@pytest.mark.parametrize("method", ["lora", "dora"])
def test_recomputed_activations_give_the_same_gradients_also_packed_into_four_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, base_format: str, method: str
) -> None:
    """The limit was compared with what PyTorch counts, which is half where two weights are packed into a byte: a model
    of 1.5 billion parameters had no checkpoints just where 4 bits were chosen for want of memory."""
    files = make_model(tmp_path, hidden_size=64, intermediate_size=128)
    plan = Plan(files=files, placement=CPU, method=method, rank=4, seed=0, parent=None, dropout=0.1)
    plan = replace(plan, base_format=base_format)
    before = gradients(plan, recomputes=False)
    monkeypatch.setattr(learner, "_RECOMPUTES_ABOVE", measure(files).parameters - 1)
    after = gradients(plan, recomputes=True)
    assert before.abs().max() > 0 and torch.allclose(before, after, atol=1e-6)
