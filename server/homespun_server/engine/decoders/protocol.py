"""What the engine asks of one set of weights: rows in, logits out; keys and values are kept by sequence.

Three do it: `native_decoder` (int8, compiled, for CPUs), `torch_decoder` (the Llama family in floating point) and
`hf_decoder` (whatever else transformers can load).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, Self

import torch


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFacts:
    vocab_size: int
    num_layers: int
    max_context: int
    can_crop: bool
    """Whether its cache is keys and values of every token, so that taking the last ones off is exact."""
    can_branch: bool
    """Whether a segment may be a tree."""


class Kv(Protocol):
    """Keys and values of one token sequence under one set of weights."""

    @property
    def length(self) -> int:
        """Tokens it holds."""
        ...

    @property
    def num_bytes(self) -> int:
        """Memory it takes, used or not."""
        ...

    def keep(self, rows: Sequence[int]) -> None:
        """Of the segment that the last `forward` computed, make these rows part of the sequence, and forget the others.

        `rows` are ascending indexes into the segment's ids, each the parent of the next; a chain's first n are
        `range(n)`. Until `keep` is called, the rows of a forward are not part of the sequence.
        """
        ...

    def crop(self, length: int) -> None:
        """Forget all but the first `length` tokens."""
        ...

    def copy_from(self, other: Self, length: int) -> None:
        """Become a copy of the first `length` tokens of `other`."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """Tokens to compute after those of `kv`."""

    kv: Kv
    ids: Sequence[int]
    parents: Sequence[int] | None = None
    """For each id the index of the one it follows, always a smaller one; -1 is the end of `kv`. None is a chain. The
    position of a token is the number of tokens before it on its own path."""
    num_rows: int = 1
    """Logits are wanted for so many ids, the last ones."""


class Decoder(Protocol):
    """One set of weights, ready to run. Used by one thread at a time.

    The logits of a token depend on the tokens of its own path only: not on what else is in the segment or the batch,
    nor on how its past was split into segments.
    """

    @property
    def facts(self) -> ModelFacts: ...

    @property
    def num_bytes(self) -> int:
        """Memory of the weights that no other decoder shares."""
        ...

    def new_kv(self) -> Kv:
        """An empty one, that grows as needed."""
        ...

    def forward(self, batch: Sequence[Segment]) -> list[torch.Tensor]:
        """For each segment the logits of its last `num_rows` ids, (num_rows, vocabulary), float32, on the CPU.

        Each kv stands in a batch once, and has room for all ids of its segment within `max_context`. The caller calls
        `keep` on each of them before the next forward.
        """
        ...
