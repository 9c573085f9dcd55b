"""From logits to tokens, and which nodes of a draft stand. A draft decides how many tokens a step yields, never which.

Sampling draws one number a token and looks up the token at that point of the cumulative distribution, so a seed gives
the same text with and without drafts: "sample, then compare" is the rejection rule for drafts without probabilities.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass

import numpy as np
import torch

from homespun_server.engine.protocol import Constraint, Token
from homespun_server.engine.trees import Branches

_Row = np.ndarray[tuple[int], np.dtype[np.float32]]
_Weights = np.ndarray[tuple[int], np.dtype[np.float64]]


@dataclass(frozen=True, slots=True)
class Decided:
    tokens: list[Token]
    path: list[int]
    """The nodes that stand, from the root; one token more than nodes."""
    num_constrained: int = 0
    """The first so many tokens were not free."""


class Sampler:
    def __init__(
        self,
        temperature: float,
        seed: int | None,
        constraint: Constraint | None = None,
        num_alternatives: int = 0,
        *,
        top_p: float = 1.0,
        top_k: int = 0,
    ) -> None:
        self._top_p, self._top_k = top_p, top_k
        self._temperature, self._constraint, self._num_alternatives = temperature, constraint, num_alternatives
        self._random = random.Random(seed)

    def decide(self, logits: torch.Tensor, tree: Branches) -> Decided:
        """logits: (1 + nodes, vocabulary), float32, on the CPU; row 1 + i follows node i."""
        # numpy: for one row of 16,384, argmax takes 1 us and the sum of exponentials 9, in torch 11 and 19.
        rows = logits.numpy()
        tokens, path = list[Token](), list[int]()
        num_constrained = 0
        node: int | None = -1
        while node is not None:
            row = rows[node + 1]
            peak = row.max()
            allowed = self._constraint.allowed() if self._constraint is not None else None
            if allowed is None:
                self._constraint = None
                chosen = self._choose(row, peak)
            else:
                num_constrained += 1
                some = row[allowed]
                chosen = int(allowed[self._choose(some, some.max())])
            if self._constraint is not None:
                self._constraint.advance(chosen)
            level = math.log(np.exp(row - peak).sum())
            tokens.append(Token(chosen, float(row[chosen] - peak) - level, self._alternatives(row, peak, level)))
            node = tree.child(node, chosen)
            if node is not None:
                path.append(node)
        return Decided(tokens, path, num_constrained)

    def _alternatives(self, row: _Row, peak: np.float32, level: float) -> tuple[tuple[int, float], ...]:
        if not self._num_alternatives:
            return ()
        likeliest = np.argsort(-row, kind="stable")[: self._num_alternatives]
        return tuple((int(i), float(row[i] - peak) - level) for i in likeliest)

    def _choose(self, row: _Row, peak: np.float32) -> int:
        return int(row.argmax()) if self._temperature <= 0 else self._draw(row, peak)

    def _draw(self, row: _Row, peak: np.float32) -> int:
        # Double precision: at its end, a float32 cumulative sum over a large vocabulary is too coarse for rare tokens.
        scaled = (row - peak).astype(np.float64) / self._temperature
        weights = np.exp(scaled)
        if self._top_p < 1 or self._top_k:
            weights = nucleus(weights, self._top_p, self._top_k)
        cumulative = weights.cumsum()
        point = self._random.random() * float(cumulative[-1])
        return min(int(np.searchsorted(cumulative, point, side="right")), len(cumulative) - 1)


def nucleus(weights: _Weights, top_p: float, top_k: int) -> _Weights:
    """With 0 for tokens beyond the `top_k` likeliest (0: all), and beyond the fewest that have `top_p` of those
    together: one at least. Of equally likely ones, those with smaller ids stay."""
    order = np.argsort(-weights, kind="stable")[: top_k or None]
    shares = weights[order].cumsum()
    kept = order[: int(np.searchsorted(shares, top_p * shares[-1])) + 1]
    found = np.zeros_like(weights)
    found[kept] = weights[kept]
    return found
