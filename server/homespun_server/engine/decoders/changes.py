"""What an adapter does to one linear module, computed in float32."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch


class Change(Protocol):
    def to_matrix(self, matrix: torch.Tensor) -> torch.Tensor:
        """The (outputs, inputs) `matrix` with the change in it."""
        ...

    def to_bias(self, bias: torch.Tensor) -> torch.Tensor: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class LowRank:
    """LoRA: adds scale x up @ down. With a magnitude (DoRA) each row of the sum is then given that length."""

    down: torch.Tensor
    """(rank, inputs)."""
    up: torch.Tensor
    """(outputs, rank)."""
    scale: float
    magnitude: torch.Tensor | None = None
    """(outputs)."""

    def to_matrix(self, matrix: torch.Tensor) -> torch.Tensor:
        summed = torch.addmm(matrix.float(), self.up.float(), self.down.float(), alpha=self.scale)
        if self.magnitude is None:
            return summed
        factors: torch.Tensor = self.magnitude.float() / torch.linalg.vector_norm(summed, dim=1)
        return summed * factors[:, None]

    def to_bias(self, bias: torch.Tensor) -> torch.Tensor:
        return bias


@dataclass(frozen=True, slots=True, kw_only=True)
class Scaling:
    """IA3: scales the outputs of a module, its bias too, or the inputs."""

    factors: torch.Tensor
    """(outputs, 1), or (1, inputs)."""

    def to_matrix(self, matrix: torch.Tensor) -> torch.Tensor:
        return matrix.float() * self.factors.float()

    def to_bias(self, bias: torch.Tensor) -> torch.Tensor:
        return bias.float() * self.factors.float()[:, 0] if self.factors.shape[1] == 1 else bias
