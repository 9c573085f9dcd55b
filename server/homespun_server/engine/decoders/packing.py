"""Linear layers, laid out for the machine they run on."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import torch
from torch import nn
from torch.nn import functional

PACK_ROWS = 16
"""Rows the packed layout is made for; in float32, 16 beat 1 by 1.3 times for one row and 1.4 times for 900."""

Linear = Callable[[torch.Tensor], torch.Tensor]


class PackedLinear(nn.Module):
    """A linear layer whose weights oneDNN has reordered for its own kernels: 1.4 to 2.4 times faster than `nn.Linear`
    (18.9M parameters, float32, whole model: 8.9 -> 5.7 ms for one row, 19.8 -> 8.6 for eight, 512 -> 215 for 900)."""

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None) -> None:
        super().__init__()
        self.out_features, self.in_features = weight.shape  # as nn.Linear: peft's adaption prompt looks at them
        self.packed = torch.ops.mkldnn._reorder_linear_weight(weight.detach().clone(), PACK_ROWS)
        self.bias = bias
        self.num_bytes = weight.nbytes

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = torch.ops.mkldnn._linear_pointwise(x, self.packed, self.bias, "none", [], "")
        return y


def will_pack(device: torch.device, dtype: torch.dtype) -> bool:
    return device.type == "cpu" and _can_pack(dtype)


@cache
def _can_pack(dtype: torch.dtype) -> bool:
    """Whether this machine's oneDNN has kernels for the format: asking it says yes where they don't run, so try one."""
    if not torch.backends.mkldnn.is_available():
        return False
    try:
        PackedLinear(torch.zeros(32, 32, dtype=dtype), None)(torch.zeros(2, 32, dtype=dtype))
    except RuntimeError:
        return False
    return True


@torch.inference_mode()
def linear(weight: torch.Tensor, bias: torch.Tensor | None, device: torch.device, dtype: torch.dtype) -> Linear:
    """The layer, as fast as this device has it. It keeps no reference to `weight` where it has packed it."""
    bias = None if bias is None else bias.to(device=device, dtype=dtype)
    weight = weight.to(device=device, dtype=dtype)
    if will_pack(device, dtype):
        return PackedLinear(weight, bias).forward
    return lambda x: functional.linear(x, weight, bias)
