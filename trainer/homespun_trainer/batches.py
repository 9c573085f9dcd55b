"""Examples as tensors. A batch is cut into micro-batches of similar length, so that little is computed for padding.

Rows are padded on the right and need no attention mask: attention is causal, and padding comes after everything that
counts. Packing several examples into a row would need one, and block-diagonal attention is slower than causal on a CPU;
it could save the seventh of all that is padding (benchmarks/LOG.md).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from homespun_trainer.examples import Example

_MULTIPLE = 32
"""Row lengths are rounded up to this: few shapes, whose kernels stay in oneDNN's cache."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MicroBatch:
    ids: torch.Tensor
    """rows x length"""
    positions: torch.Tensor
    """rows x length, bool: where the next token is a target."""
    targets: torch.Tensor
    """num_targets: the tokens that follow those positions."""
    weights: torch.Tensor
    """num_targets, fp32"""
    num_tokens: int
    """Without padding."""


def micro_batches(examples: Sequence[Example], max_tokens: int) -> Iterator[MicroBatch]:
    """In order of length; `max_tokens` includes padding. An example longer than that is a micro-batch of its own."""
    rows: list[Example] = []
    for example in sorted(examples, key=lambda e: len(e.ids)):
        if rows and _rounded(len(example.ids)) * (len(rows) + 1) > max_tokens:
            yield collate(rows)
            rows = []
        rows.append(example)
    if rows:
        yield collate(rows)


def longest_row(examples: Sequence[Example]) -> int:
    """With its padding: what no micro-batch is smaller than."""
    return _rounded(max((len(e.ids) for e in examples), default=0))


def collate(examples: Sequence[Example]) -> MicroBatch:
    length = _rounded(max(len(e.ids) for e in examples))
    ids = torch.zeros(len(examples), length, dtype=torch.long)
    weights = torch.zeros(len(examples), length, dtype=torch.float32)
    for row, example in enumerate(examples):
        ids[row, : len(example.ids)] = torch.tensor(example.ids)
        weights[row, : len(example.ids) - 1] = torch.tensor(example.weights[1:])
    positions = weights > 0
    following = torch.roll(ids, -1, dims=1)
    return MicroBatch(
        ids=ids,
        positions=positions,
        targets=following[positions],
        weights=weights[positions],
        num_tokens=sum(len(e.ids) for e in examples),
    )


def target_weight(examples: Sequence[Example]) -> float:
    """Sum of all weights: what the summed loss is divided by, the same however the batch is cut."""
    return sum(sum(e.weights[1:]) for e in examples)


def _rounded(length: int) -> int:
    return -(-length // _MULTIPLE) * _MULTIPLE
