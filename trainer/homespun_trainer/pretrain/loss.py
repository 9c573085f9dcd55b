"""Cross-entropy of a large vocabulary, a few thousand positions at a time: the logits of a whole batch would be most of
the memory. The gradients are made on the way forward, so that nothing is computed twice."""

from __future__ import annotations

from typing import Any

import torch

IGNORED = -1
_CHUNK = 8192


def targets(ids: torch.Tensor, pad: int) -> torch.Tensor:
    """The token that follows each place; IGNORED in front of padding and at the end of a row."""
    following = torch.full_like(ids, IGNORED)
    following[:, :-1] = torch.where(ids[:, 1:] == pad, IGNORED, ids[:, 1:])
    return following


def summed_loss(hidden: torch.Tensor, head: torch.Tensor, following: torch.Tensor) -> torch.Tensor:
    """Sum over all places with a target. `hidden` is places x width, `head` vocabulary x width."""
    loss: torch.Tensor = _Summed.apply(hidden, head, following)  # type: ignore[no-untyped-call]
    return loss


class _Summed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden: torch.Tensor, head: torch.Tensor, following: torch.Tensor) -> torch.Tensor:
        to_hidden, to_head = torch.empty_like(hidden), torch.zeros(head.shape, device=head.device)
        total = torch.zeros((), device=hidden.device)
        for start in range(0, len(hidden), _CHUNK):
            part, wanted = hidden[start : start + _CHUNK], following[start : start + _CHUNK]
            loss, gradient = _chunk(part @ head.T, wanted)
            total += loss
            gradient = gradient.to(hidden.dtype)
            to_hidden[start : start + _CHUNK] = gradient @ head
            to_head += gradient.T @ part
        ctx.save_for_backward(to_hidden, to_head.to(head.dtype))
        return total

    @staticmethod
    def backward(ctx: Any, upstream: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, None]:
        to_hidden, to_head = ctx.saved_tensors
        return to_hidden * upstream.to(to_hidden.dtype), to_head * upstream.to(to_head.dtype), None


def _chunk(logits: torch.Tensor, wanted: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Summed loss, and its gradient by the logits."""
    logits = logits.float()
    counts, index = wanted >= 0, wanted.clamp(min=0)[:, None]
    normaliser = torch.logsumexp(logits, -1, keepdim=True)
    loss = ((normaliser - logits.gather(1, index))[:, 0] * counts).sum()
    gradient = torch.exp(logits - normaliser)
    gradient.scatter_add_(1, index, torch.full_like(index, -1.0, dtype=gradient.dtype))
    return loss, gradient * counts[:, None]
