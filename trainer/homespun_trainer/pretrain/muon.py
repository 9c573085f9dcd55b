"""Muon: momentum, made orthogonal by five Newton-Schulz steps. For the matrices inside the layers; embeddings and norms
have AdamW.

Jordan et al., https://kellerjordan.github.io/posts/muon/. The same steps as torch.optim.Muon, which a test holds it to,
but with all matrices of one shape in one product, and not always in bfloat16: some CPUs have none.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch

_A, _B, _C = 3.4445, -4.7750, 2.0315
_STEPS = 5


def orthogonalised(batch: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Nearly the nearest semi-orthogonal matrices (n x rows x columns); singular values end between 0.7 and 1.2."""
    is_tall = batch.shape[-2] > batch.shape[-1]
    x = (batch.mT if is_tall else batch).to(dtype)
    x = x / x.norm(dim=(-2, -1), keepdim=True).clamp(min=1e-7)
    for _ in range(_STEPS):
        gram = x @ x.mT
        x = _A * x + (_B * gram + _C * (gram @ gram)) @ x
    back: torch.Tensor = x.mT if is_tall else x
    return back.to(batch.dtype)


class Muon(torch.optim.Optimizer):
    """A matrix's change has the size of the learning rate, times the root of rows by columns where it is tall."""

    def __init__(
        self,
        matrices: Iterable[torch.Tensor],
        *,
        lr: float,
        momentum: float = 0.95,
        weight_decay: float = 0.0,
        dtype: torch.dtype = torch.bfloat16,
    ) -> None:
        super().__init__(matrices, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})
        self._dtype = dtype

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            shapes: dict[torch.Size, list[torch.Tensor]] = {}
            for matrix in group["params"]:
                shapes.setdefault(matrix.shape, []).append(matrix)
            for matrices in shapes.values():
                self._step(matrices, group["lr"], group["momentum"], group["weight_decay"])

    def _step(self, matrices: list[torch.Tensor], lr: float, momentum: float, weight_decay: float) -> None:
        directions = []
        for matrix in matrices:
            assert matrix.grad is not None
            average = self.state[matrix].setdefault("momentum_buffer", torch.zeros_like(matrix))
            average.lerp_(matrix.grad, 1 - momentum)
            directions.append(matrix.grad.lerp(average, momentum))
        change = orthogonalised(torch.stack(directions), self._dtype)
        rows, columns = matrices[0].shape
        scale = max(1.0, rows / columns) ** 0.5
        for matrix, direction in zip(matrices, change, strict=True):
            matrix.mul_(1 - lr * weight_decay).add_(direction, alpha=-lr * scale)
