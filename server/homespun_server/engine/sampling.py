"""From logits to tokens, and which tokens of a draft stand. A draft decides how many tokens a step yields, never which.

Sampling draws one number a token and looks up the token at that point of the cumulative distribution, so a seed gives
the same text with and without drafts: "sample, then compare" is the rejection rule for drafts without probabilities.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

import torch

from homespun_server.engine.protocol import Token


class Sampler:
    def __init__(self, temperature: float, seed: int | None) -> None:
        self._temperature = temperature
        self._random = random.Random(seed)

    @torch.inference_mode()
    def choose(self, logits: torch.Tensor, draft: Sequence[int]) -> list[Token]:
        """The tokens one step decides: the agreeing start of `draft`, and one more.

        logits: (len(draft) + 1, vocabulary), float32; row i follows the first i ids of the draft.
        """
        best = logits.argmax(dim=-1).tolist() if self._temperature <= 0 else None
        chosen: list[int] = []
        for row in range(len(draft) + 1):
            chosen.append(best[row] if best is not None else self._draw(logits[row]))
            if row == len(draft) or chosen[row] != draft[row]:
                break
        return [Token(i, p) for i, p in zip(chosen, _logprobs(logits, chosen), strict=True)]

    def _draw(self, logits: torch.Tensor) -> int:
        # Double precision: at its end, a float32 cumulative sum over a large vocabulary is too coarse for rare tokens.
        scaled = (logits - logits.max()).double() / self._temperature
        cumulative = scaled.exp().cumsum(dim=-1)
        point = self._random.random() * float(cumulative[-1])
        return min(int(torch.searchsorted(cumulative, point, right=True)), len(cumulative) - 1)


def _logprobs(logits: torch.Tensor, chosen: Sequence[int]) -> list[float]:
    rows = logits[: len(chosen)]
    picked = rows.gather(-1, torch.tensor(chosen, device=rows.device).unsqueeze(-1)).squeeze(-1)
    values: list[float] = (picked - rows.logsumexp(dim=-1)).tolist()
    return values
