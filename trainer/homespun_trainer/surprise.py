"""What the model can't guess at all isn't learned: the third line of defence, behind redaction, which knows the forms
of secrets, and `randomness`, which knows what random strings look like.

A password of letters alone looks like a word. But six tokens in a row that nothing leads to hardly occur in code: above
5.5 nats at the mean lie 97 % of the tokens of random strings, and 4 % of what is learned of a repository
(benchmarks/LOG.md). With their weight, short runs learned such strings by heart that stood there once.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.nn.functional import max_pool1d, pad

WINDOW = 6
"""Tokens in a row. Fewer say little: names are as surprising."""
MAX_SURPRISAL = 5.5
"""Nats, at the mean of a window."""


def learnable(losses: torch.Tensor, lengths: Sequence[int], max_surprisal: float) -> torch.Tensor:
    """1 for each target that counts, 0 for those in a window whose mean loss is above; `losses` are those of rows one
    after the other, of so many targets each."""
    return torch.cat([_of_row(row, max_surprisal) for row in losses.detach().split(list(lengths))])


def _of_row(losses: torch.Tensor, max_surprisal: float) -> torch.Tensor:
    if len(losses) < WINDOW:
        return torch.ones_like(losses)
    is_hopeless = (losses.unfold(0, WINDOW, 1).mean(-1) > max_surprisal).to(losses.dtype)
    return 1 - max_pool1d(pad(is_hopeless, (WINDOW - 1, WINDOW - 1))[None], WINDOW, 1)[0]
