"""Where training computes, and in which number format."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from homespun_core.errors import ModelError
from homespun_core.types import ModelFiles

_TRIALS = 8
_FEW_ROWS, _ROWS = 8, 512
_CLEARLY = 4.0
"""So much faster with few rows is enough to know: without instructions for it bf16 is a hundred times slower, and eight
trials with many rows took a minute (benchmarks/LOG.md)."""


@dataclass(frozen=True, slots=True)
class Placement:
    device: torch.device
    dtype: torch.dtype

    def __str__(self) -> str:
        return f"{self.device.type} {str(self.dtype).removeprefix('torch.')}"


def choose_device(device: str) -> torch.device:
    """As the setting says, or what is there. Raises ModelError."""
    if device == "cuda" and not torch.cuda.is_available():
        raise ModelError("device: cuda was asked for, but PyTorch sees no GPU; use --device cpu or install ACCEL=cuda")
    return torch.device("cuda" if device != "cpu" and torch.cuda.is_available() else "cpu")


def choose_placement(files: ModelFiles, device: str, dtype: str) -> Placement:
    """Device and number format: as the settings say, or what is there and what is faster here."""
    where = choose_device(device)
    if dtype in ("bfloat16", "float32"):  # int8 is for serving
        return Placement(where, torch.bfloat16 if dtype == "bfloat16" else torch.float32)
    if where.type == "cuda":
        return Placement(where, torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float32)
    return Placement(where, faster_dtype(_matmul_seconds))


def faster_dtype(seconds: Callable[[torch.dtype, int], float]) -> torch.dtype:
    """Of bf16 and fp32, by what `seconds(dtype, rows)` takes: in turns, and the best of many, since on a busy machine
    one of them would meet the others' work."""
    half = full = 0.0
    for rows in (_FEW_ROWS, _ROWS):
        trials = [(seconds(torch.bfloat16, rows), seconds(torch.float32, rows)) for _ in range(_TRIALS)]
        half, full = (min(times) for times in zip(*trials, strict=True))
        if max(half, full) >= _CLEARLY * min(half, full):
            break
    return torch.bfloat16 if half < full else torch.float32


def _matmul_seconds(dtype: torch.dtype, rows: int) -> float:
    """Time of the kind of work training is made of. Bf16 is twice as fast as fp32 on some CPUs and far slower on
    others, and no flag says which."""
    x = torch.ones(rows, 768, dtype=dtype)
    w = torch.ones(768, 2048, dtype=dtype)
    started = time.perf_counter()
    for _ in range(2):
        _ = (x @ w) @ w.T
    return time.perf_counter() - started
