"""What a filter says of a completion that is ready: a dot product, a threshold, and a share that is shown all the same.
Pure."""

from __future__ import annotations

import bisect
import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Verdict = Literal["show", "hide", "explore", "would_hide"]
"""`explore`: unlikely, and drawn to be shown. `would_hide`: unlikely, but the filter isn't used or may not hide it."""

EXPLORED = 0.05
"""Share of what would be hidden that is shown, so that the next training sees what became of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """Logistic regression, whose slope is calibrated, and where that isn't enough a curve behind it."""

    version: str
    intercept: float
    weights: Mapping[str, float]
    """By name of the feature; one that a completion doesn't have counts as 0."""
    spreads: Mapping[str, float]
    """Standard deviations of the features where it was trained: they make weights comparable."""
    threshold: float
    """What is less likely to be kept is hidden. 0 hides nothing."""
    thresholds: Mapping[str, float]
    """Of languages with enough data for one of their own."""
    knots: tuple[tuple[float, float], ...] = ()
    """The curve: (foretold, happens), both rising; straight between them, flat beyond. None leaves it as it is."""

    def probability(self, features: Mapping[str, float]) -> float:
        """That something of a completion is kept."""
        logit = self.intercept + sum(w * features.get(name, 0.0) for name, w in self.weights.items())
        return _on_the_curve(sigmoid(logit), self.knots)

    def threshold_of(self, language: str | None) -> float:
        return self.thresholds.get(language or "", self.threshold)

    def is_unlikely(self, features: Mapping[str, float], language: str | None) -> bool:
        return self.probability(features) < self.threshold_of(language)


def verdict(
    filter: Filter, features: Mapping[str, float], *, completion: str, language: str | None, may_hide: bool
) -> Verdict:
    if not filter.is_unlikely(features, language):
        return "show"
    if not may_hide:
        return "would_hide"
    return "explore" if is_explored(completion) else "hide"


def is_explored(completion: str) -> bool:
    """By the id of the completion alone, so that it can be checked afterwards."""
    digest = hashlib.blake2b(completion.encode(), digest_size=8, person=b"explored").digest()
    return int.from_bytes(digest) < EXPLORED * 2**64


def _on_the_curve(p: float, knots: tuple[tuple[float, float], ...]) -> float:
    at = bisect.bisect_left(knots, (p,))
    if not knots or at == 0:
        return knots[0][1] if knots else p
    if at == len(knots):
        return knots[-1][1]
    (x0, y0), (x1, y1) = knots[at - 1], knots[at]
    return y0 + (y1 - y0) * (p - x0) / (x1 - x0)


def sigmoid(logit: float) -> float:
    """For any finite logit: `exp` of a large one overflows."""
    return 1 / (1 + math.exp(-logit)) if logit >= 0 else math.exp(logit) / (1 + math.exp(logit))
