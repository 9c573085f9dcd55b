"""How sure a measured difference is: cluster bootstrap, because places of one commit succeed and fail together."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import asdict, dataclass

import numpy as np

RESAMPLES = 10_000
_LOW, _HIGH = 2.5, 97.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A value with its 95 % interval."""

    value: float
    low: float
    high: float

    def as_json(self) -> dict[str, float]:
        return {key: round(float(number), 5) for key, number in asdict(self).items()}


def ratio(
    numerators: Sequence[float],
    denominators: Sequence[float],
    clusters: Sequence[Hashable],
    *,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> Estimate:
    """sum(numerators) / sum(denominators), with a percentile interval from drawing whole clusters with replacement.

    With denominators of one this is a mean. Paired comparisons pass differences. The draw depends on seed and number of
    clusters alone, so shifting every value shifts the interval by as much. Raises ValueError on no data.
    """
    if not numerators:
        raise ValueError("nothing to estimate from")
    names = {cluster: i for i, cluster in enumerate(dict.fromkeys(clusters))}
    rows = np.array([names[cluster] for cluster in clusters])
    tops = np.bincount(rows, weights=np.asarray(numerators, dtype=float), minlength=len(names))
    bottoms = np.bincount(rows, weights=np.asarray(denominators, dtype=float), minlength=len(names))
    draws = np.random.default_rng(seed).multinomial(len(names), np.full(len(names), 1 / len(names)), size=resamples)
    low, high = np.percentile((draws @ tops) / (draws @ bottoms), [_LOW, _HIGH])
    return Estimate(value=float(tops.sum() / bottoms.sum()), low=float(low), high=float(high))


def mean(values: Sequence[float], clusters: Sequence[Hashable], *, seed: int = 0) -> Estimate:
    return ratio(values, [1.0] * len(values), clusters, seed=seed)
