"""What no implementation can beat on this machine: the time that the arithmetic and the memory traffic of a completion
take at the speeds that the machine reaches with the same threads.

    prefill >= max(weights / bandwidth, (2 * body * n + 4 * layers * heads * head size * n * (cached + n / 2)) / peak)
    a step  >= max((weights + keys and values) / bandwidth, 2 * weights * rows / peak)

`bandwidth` is that of reading a block as large as the weights again and again, so weights that fit into a cache are
read at its speed; `peak` that of the fastest matrix product of the arm's number format. The embedding that a token is
looked up in costs nothing; the same matrix as output layer counts. Drafted rows count as work, since the arm chose to
do it.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

Format = Literal["float32", "bfloat16", "int8"]
_BYTES: Mapping[Format, int] = {"float32": 4, "bfloat16": 2, "int8": 1}
_SECONDS = 0.4
_SIZES = (512, 1_024, 2_048)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """A Llama's, as far as its work goes."""

    layers: int
    heads: int
    kv_heads: int
    head_size: int
    body: int
    """Weights of the matrices of all layers."""
    head: int
    """Weights of the output layer."""

    @staticmethod
    def of(model: Path) -> Shape:
        c = json.loads((model / "config.json").read_text(encoding="utf-8"))
        heads, kv_heads, width = c["num_attention_heads"], c["num_key_value_heads"], c["hidden_size"]
        head_size = c.get("head_dim") or width // heads
        attention = width * head_size * (2 * heads + 2 * kv_heads)
        return Shape(
            layers=c["num_hidden_layers"],
            heads=heads,
            kv_heads=kv_heads,
            head_size=head_size,
            body=c["num_hidden_layers"] * (attention + 3 * width * c["intermediate_size"]),
            head=width * c["vocab_size"],
        )


class Limits:
    """Bounds in milliseconds; the machine is measured when they are first asked for, at torch's number of threads."""

    def __init__(self, shape: Shape) -> None:
        self._shape = shape
        self._bandwidths: dict[int, float] = {}
        self._peaks: dict[Format, float] = {}

    def completion_ms(self, format: Format, *, prompt: int, cached: int, steps: int, rows: float) -> float:
        """`rows`: tokens that a step computes on average, 1 without drafts. The prefill decides the first token."""
        return self.prefill_ms(format, prompt - cached, cached) + (steps - 1) * self.step_ms(format, prompt, rows)

    def prefill_ms(self, format: Format, new: int, cached: int) -> float:
        s = self._shape
        attention = 4 * s.layers * s.heads * s.head_size * new * (cached + new / 2)
        work = 2 * s.body * new + 2 * s.head + attention
        return 1e3 * max(self._weights(format) / self.bandwidth(format), work / self.peak(format))

    def step_ms(self, format: Format, context: int, rows: float) -> float:
        s = self._shape
        kept = 2 * s.layers * s.kv_heads * s.head_size * context * min(2, _BYTES[format])
        traffic = (self._weights(format) + kept) / self.bandwidth(format)
        return 1e3 * max(traffic, 2 * (s.body + s.head) * rows / self.peak(format))

    def bandwidth(self, format: Format) -> float:
        """Bytes a second."""
        size = self._weights(format)
        if size not in self._bandwidths:
            self._bandwidths[size] = _read_speed(size)
        return self._bandwidths[size]

    def peak(self, format: Format) -> float:
        """Operations a second; a format that the machine is slow in is bounded by the fastest that is as exact."""
        if format not in self._peaks:
            own = max(_product_speed(n, format) for n in _SIZES)
            self._peaks[format] = own if format == "float32" else max(own, self.peak("float32"))
        return self._peaks[format]

    def report(self) -> dict[str, Any]:
        return {
            "bandwidth_gb_s": {f"{size / 1e6:.0f} MB": round(v / 1e9, 1) for size, v in self._bandwidths.items()},
            "peak_gop_s": {name: round(v / 1e9) for name, v in self._peaks.items()},
        }

    def _weights(self, format: Format) -> int:
        return (self._shape.body + self._shape.head) * _BYTES[format]


def _read_speed(num_bytes: int) -> float:
    columns = 1_024
    block = torch.rand(num_bytes // 4 // columns, columns)
    vector = torch.rand(columns)
    ways: tuple[Callable[[], object], ...] = (block.sum, block.max, lambda: torch.mv(block, vector))
    return block.numel() * 4 / min(_fastest(way) for way in ways)


def _product_speed(size: int, format: Format) -> float:
    if format == "int8":
        a, b = (torch.randint(-127, 127, (size, size), dtype=torch.int8) for _ in range(2))
        return 2 * size**3 / _fastest(lambda: torch._int_mm(a, b))
    x, y = (torch.rand(size, size).to(getattr(torch, format)) for _ in range(2))
    return 2 * size**3 / _fastest(lambda: x @ y)


def _fastest(work: Callable[[], object]) -> float:
    """Seconds; the least of many, since a shared machine only ever adds."""
    work()
    best, until = float("inf"), time.perf_counter() + _SECONDS
    while time.perf_counter() < until:
        started = time.perf_counter()
        work()
        best = min(best, time.perf_counter() - started)
    return best
