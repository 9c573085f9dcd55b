"""Where training computes, and in which number format."""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch

from homespun_core.errors import ModelError
from homespun_core.types import ModelFiles

_TRIALS = 8


@dataclass(frozen=True, slots=True)
class Placement:
    device: torch.device
    dtype: torch.dtype

    def __str__(self) -> str:
        return f"{self.device.type} {str(self.dtype).removeprefix('torch.')}"


def choose_placement(files: ModelFiles, device: str, dtype: str) -> Placement:
    """Device and number format: as the settings say, or what is there and what is faster here."""
    where = torch.device("cuda" if device == "cuda" or (device == "auto" and torch.cuda.is_available()) else "cpu")
    if device == "cuda" and not torch.cuda.is_available():
        raise ModelError("device: cuda was asked for, but PyTorch sees no GPU; use --device cpu or install ACCEL=cuda")
    if dtype in ("bfloat16", "float32"):  # int8 is for serving
        return Placement(where, torch.bfloat16 if dtype == "bfloat16" else torch.float32)
    if where.type == "cuda":
        return Placement(where, torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float32)
    # In turns, and the best of many: on a busy machine one of them would meet the others' work.
    candidates = [Placement(where, torch.bfloat16), Placement(where, torch.float32)]
    times = [[_matmul_seconds(c) for c in candidates] for _ in range(_TRIALS)]
    return candidates[min(range(len(candidates)), key=lambda i: min(row[i] for row in times))]


def _matmul_seconds(placement: Placement) -> float:
    """Time of the kind of work training is made of. Bf16 is twice as fast as fp32 on some CPUs and far slower on
    others, and no flag says which."""
    x = torch.ones(512, 768, dtype=placement.dtype)
    w = torch.ones(768, 2048, dtype=placement.dtype)
    started = time.perf_counter()
    for _ in range(2):
        _ = (x @ w) @ w.T
    return time.perf_counter() - started
