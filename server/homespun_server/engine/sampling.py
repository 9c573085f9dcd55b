"""From logits to tokens, and which nodes of a draft stand. A draft decides how many tokens a step yields, never which.

Sampling draws one number a token and looks up the token at that point of the cumulative distribution, so a seed gives
the same text with and without drafts: "sample, then compare" is the rejection rule for drafts without probabilities.
"""

from __future__ import annotations

import logging
import math
import random
from dataclasses import dataclass

import numpy as np
import torch

from homespun_server.engine.protocol import Constraint, Expectation, Ids, Mixer, Token
from homespun_server.engine.trees import Branches

logger = logging.getLogger(__name__)

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
        mixer: Mixer | None = None,
    ) -> None:
        self._top_p, self._top_k = top_p, top_k
        self._temperature, self._constraint, self._num_alternatives = temperature, constraint, num_alternatives
        self._mixer = mixer if temperature <= 0 else None
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
            weights = np.exp(row - peak)
            total = weights.sum()
            level = math.log(total)
            logprob = float(row[chosen] - peak) - level
            if self._mixer is not None:
                chosen, logprob = self._mixed(self._mixer, weights / total, allowed, (chosen, logprob))
            if self._constraint is not None:
                self._constraint.advance(chosen)
            tokens.append(Token(chosen, logprob, self._alternatives(row, peak, level)))
            node = tree.child(node, chosen)
            if node is not None:
                path.append(node)
        return Decided(tokens, path, num_constrained)

    def _mixed(self, mixer: Mixer, chances: _Row, allowed: Ids | None, plain: tuple[int, float]) -> tuple[int, float]:
        """Token and log-probability with what else speaks for tokens, where they are `plain` without. A mixer whose
        data are damaged is left out from there on."""
        chosen, logprob = plain
        try:
            expected = mixer.expects(chances, allowed)
            if expected is not None:
                chosen, chance = likeliest(chances, expected, mixer.ends, allowed, chosen)
                logprob = math.log(max(chance, 1e-30))
            mixer.extend(chosen)
        except (LookupError, ValueError, OSError) as error:
            logger.warning("a mixer failed (%s); this completion goes on without", type(error).__name__)
            self._mixer = None
        return chosen, logprob

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


def likeliest(chances: _Row, expected: Expectation, ends: Ids, allowed: Ids | None, chosen: int) -> tuple[int, float]:
    """The likeliest token of a mixture, with its chance; `chosen` is the model's likeliest of the allowed ones, and is
    kept among equals. Ends count together; of them the model's likeliest is taken."""
    keep, weight = 1 - expected.weight, expected.weight
    may = None if allowed is None else frozenset(allowed.tolist())
    end_ids = frozenset(ends.tolist())
    shares = {t: s for t, s in expected.shares.items() if t not in end_ids and (may is None or t in may)}
    found = {token: keep * float(chances[token]) + weight * share for token, share in shares.items()}
    inner = _likeliest_inside(chances, ends, end_ids, allowed)
    if inner is not None:
        found.setdefault(inner, keep * float(chances[inner]))
    own_ends = ends if may is None else ends[[token in may for token in ends.tolist()]]
    if len(own_ends):
        end = int(own_ends[chances[own_ends].argmax()])
        end_share = sum(share for token, share in expected.shares.items() if token in end_ids)
        found[end] = keep * float(chances[ends].sum()) + weight * end_share
    best = max(found.values())
    return (chosen, best) if found.get(chosen) == best else (next(t for t, c in found.items() if c == best), best)


def _likeliest_inside(chances: _Row, ends: Ids, end_ids: frozenset[int], allowed: Ids | None) -> int | None:
    """Of the tokens that are no end."""
    if allowed is None:
        rest = chances.copy()
        rest[ends] = -1.0
        return int(rest.argmax())
    inside = [token for token in allowed.tolist() if token not in end_ids]
    return max(inside, key=lambda token: float(chances[token]), default=None)


def nucleus(weights: _Weights, top_p: float, top_k: int) -> _Weights:
    """With 0 for tokens beyond the `top_k` likeliest (0: all), and beyond the fewest that have `top_p` of those
    together: one at least. Of equally likely ones, those with smaller ids stay."""
    order = np.argsort(-weights, kind="stable")[: top_k or None]
    shares = weights[order].cumsum()
    kept = order[: int(np.searchsorted(shares, top_p * shares[-1])) + 1]
    found = np.zeros_like(weights)
    found[kept] = weights[kept]
    return found
