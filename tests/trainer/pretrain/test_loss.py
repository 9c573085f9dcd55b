from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from homespun_trainer.pretrain import loss
from homespun_trainer.pretrain.loss import IGNORED, summed_loss, targets

PAD = 4


def test_padding_and_the_end_of_a_row_have_no_target() -> None:
    ids = torch.tensor([[7, 8, 9, PAD, PAD], [5, 6, 7, 8, 9]])
    assert targets(ids, PAD).tolist() == [[8, 9, IGNORED, IGNORED, IGNORED], [6, 7, 8, 9, IGNORED]]


def test_loss_and_gradients_are_those_of_cross_entropy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loss, "_CHUNK", 3)  # several chunks, the last one shorter
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(11, 8, generator=generator, requires_grad=True)
    head = torch.randn(16, 8, generator=generator, requires_grad=True)
    wanted = torch.tensor([1, 2, IGNORED, 15, 0, 7, IGNORED, 3, 3, 9, IGNORED])
    ours = summed_loss(hidden, head, wanted)
    (ours * 0.25).backward()
    gradients = [hidden.grad, head.grad]
    hidden.grad = head.grad = None
    theirs = functional.cross_entropy(hidden @ head.T, wanted, ignore_index=IGNORED, reduction="sum")
    (theirs * 0.25).backward()
    torch.testing.assert_close(ours, theirs)
    for mine, reference in zip(gradients, (hidden.grad, head.grad), strict=True):
        torch.testing.assert_close(mine, reference)


def test_bfloat16_weights_get_bfloat16_gradients() -> None:
    hidden = torch.randn(4, 8, dtype=torch.bfloat16, requires_grad=True)
    head = torch.randn(16, 8, dtype=torch.bfloat16, requires_grad=True)
    summed_loss(hidden, head, torch.tensor([1, 2, 3, 4])).backward()
    assert hidden.grad is not None and hidden.grad.dtype == torch.bfloat16
    assert head.grad is not None and head.grad.dtype == torch.bfloat16
