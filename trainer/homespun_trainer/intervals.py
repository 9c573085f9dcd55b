"""How sure a measured difference is: cluster bootstrap, because places of one commit succeed and fail together.

Percentiles of the draws alone are too narrow with few clusters: of ten they missed the truth in 5.3 % of cases a side,
not 2.5. They are widened as a t-interval is wider than a normal one: 2.7 %. That mends no skew: where a few clusters
differ by far more than the others, and all one way, one side is missed in 7 % with ten of them, 3 % with sixty
(`benchmarks/coverage.py`, figures in `benchmarks/LOG.md`).
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 10_000
_BLOCK = 500
"""Resamples that are drawn and summed at once: as whole numbers and again as floats, those of 20,000 clusters took
3.2 GB."""
_LOW, _HIGH = 2.5, 97.5
_Z = NormalDist().inv_cdf(0.975)
_INTERVAL_IN_ERRORS = 3.92
"""Width of a 95 % interval in standard errors."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A value with its 95 % interval, which is infinite where nothing can be told: no decision is sure then. Of what is
    infinite or no number itself, as bits are where a model gives a line no chance at all, the value isn't one either.
    """

    value: float
    low: float
    high: float

    @property
    def error(self) -> float:
        """Standard error, from the width of the interval."""
        return (self.high - self.low) / _INTERVAL_IN_ERRORS

    @property
    def is_known(self) -> bool:
        """Whether there is an interval."""
        return math.isfinite(self.error)

    @property
    def is_number(self) -> bool:
        """Whether value and interval can be compared with anything: NaN is neither above nor below a limit."""
        return math.isfinite(self.value) and not (math.isnan(self.low) or math.isnan(self.high))

    def as_json(self) -> dict[str, float | None]:
        """What isn't known is None."""
        return {key: round(float(number), 5) if math.isfinite(number) else None for key, number in asdict(self).items()}


_NO_NUMBER = Estimate(value=math.nan, low=-math.inf, high=math.inf)


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """What a ratio is made of, place by place: sum(tops) / sum(bottoms). With bottoms of one it is a mean."""

    tops: Sequence[float]
    bottoms: Sequence[float]


def ratio(share: Share, clusters: Sequence[Hashable], *, seed: int = 0) -> Estimate:
    """With a widened percentile interval from drawing whole clusters with replacement.

    The draw depends on seed and number of clusters alone, so shifting every value shifts the interval by as much.
    Raises ValueError on no data, or nothing to divide by.
    """
    names = _numbered(clusters)
    tops, bottoms = _sums(share, clusters, names)
    value = tops.sum() / bottoms.sum()
    if not math.isfinite(value):
        return _NO_NUMBER
    drawn = _drawn(seed, tops, bottoms)
    return _estimate(_divided(*drawn), value, _num_telling(bottoms))


def change(a: Share, b: Share, clusters: Sequence[Hashable], *, seed: int = 0) -> Estimate:
    """a minus b, paired: both ratios are taken over the same draws. Raises ValueError as `ratio` does."""
    names = _numbered(clusters)
    sums = [_sums(share, clusters, names) for share in (a, b)]
    value_a, value_b = (tops.sum() / bottoms.sum() for tops, bottoms in sums)
    if not (math.isfinite(value_a) and math.isfinite(value_b)):
        return _NO_NUMBER
    drawn_a, drawn_b = (_divided(*_drawn(seed, tops, bottoms)) for tops, bottoms in sums)
    return _estimate(drawn_a - drawn_b, value_a - value_b, min(_num_telling(bottoms) for _, bottoms in sums))


def mean(values: Sequence[float], clusters: Sequence[Hashable], *, seed: int = 0) -> Estimate:
    return ratio(Share(tops=values, bottoms=[1.0] * len(values)), clusters, seed=seed)


@dataclass(frozen=True, slots=True, kw_only=True)
class Swaps:
    """Places where only one of two arms was right, and McNemar's exact two-sided p for as uneven a split by chance.

    It takes places for independent; the interval of the difference doesn't, and is what decisions are made on.
    """

    gained: int
    lost: int

    @property
    def p(self) -> float:
        n, k = self.gained + self.lost, min(self.gained, self.lost)
        return min(1.0, sum(math.comb(n, i) for i in range(k + 1)) / 2 ** (n - 1)) if n else 1.0

    def as_json(self) -> dict[str, float]:
        return {"gained": self.gained, "lost": self.lost, "p": round(self.p, 5)}


def surely_above_zero(changes: Mapping[str, Estimate], level: float = 0.05) -> list[str]:
    """Names of the changes that are above zero, with a chance of `level` that any of them isn't (Holm's procedure, on
    one-sided normal p from each interval's width)."""
    ordered = sorted(changes, key=lambda name: _p_above(changes[name]))
    found = []
    for i, name in enumerate(ordered):
        if _p_above(changes[name]) > level / (len(ordered) - i):
            break
        found.append(name)
    return found


def _p_above(estimate: Estimate) -> float:
    if not estimate.is_number:
        return 1.0
    if estimate.error == 0:
        return 0.0 if estimate.value > 0 else 1.0
    return 0.5 * math.erfc(estimate.value / estimate.error / math.sqrt(2))


Numbers = NDArray[np.float64]
Counts = NDArray[np.uint8]


def _numbered(clusters: Sequence[Hashable]) -> dict[Hashable, int]:
    if not clusters:
        raise ValueError("nothing to estimate from")
    return {cluster: i for i, cluster in enumerate(dict.fromkeys(clusters))}


def _drawn(seed: int, *sums: Numbers) -> tuple[Numbers, ...]:
    """Of each, by cluster: its sum over every resample."""
    draws = _draws(len(sums[0]), seed)
    blocks = (draws[start : start + _BLOCK].astype(np.float64) for start in range(0, RESAMPLES, _BLOCK))
    parts = [[block @ each for each in sums] for block in blocks]
    return tuple(np.concatenate(column) for column in zip(*parts, strict=True))


@lru_cache(
    maxsize=4
)  # a report asks for the same draws for every metric; those of 5,000 commits are 50 MB, and take 3 s
def _draws(count: int, seed: int) -> Counts:
    """How often each cluster is drawn, one row a resample. A byte is enough: on average it is once."""
    rng, shares = np.random.default_rng(seed), np.full(count, 1 / count)
    made = np.empty((RESAMPLES, count), dtype=np.uint8)
    for start in range(0, RESAMPLES, _BLOCK):
        made[start : start + _BLOCK] = rng.multinomial(count, shares, size=_BLOCK)
    return made


def _sums(share: Share, clusters: Sequence[Hashable], names: Mapping[Hashable, int]) -> tuple[Numbers, Numbers]:
    rows = np.array([names[cluster] for cluster in clusters])
    tops, bottoms = (
        np.bincount(rows, weights=np.asarray(values, dtype=np.float64), minlength=len(names)).astype(np.float64)
        for values in (share.tops, share.bottoms)
    )
    if not bottoms.any():
        raise ValueError("nothing to estimate from")
    return tops, bottoms


def _divided(tops: Numbers, bottoms: Numbers) -> Numbers:
    """Draws without anything to divide by say nothing."""
    return np.divide(tops, bottoms, out=np.full_like(tops, np.nan), where=bottoms != 0)


def _num_telling(bottoms: Numbers) -> int:
    """Clusters that there is anything of to divide by: the others say nothing of the ratio."""
    return int(np.count_nonzero(bottoms))


def _estimate(drawn: Numbers, value: float, num_clusters: int) -> Estimate:
    """Of one cluster nothing can be told: all draws are alike, and a point would be the surest interval of all."""
    if num_clusters < 2:
        return Estimate(value=float(value), low=-math.inf, high=math.inf)
    ends, factor = np.nanpercentile(drawn, [_LOW, _HIGH]), widening(num_clusters)
    low, high = value + (ends - value) * factor
    return Estimate(value=float(value), low=float(low), high=float(high))


def widening(num_clusters: int) -> float:
    """Student's t over the normal quantile, for the error that is itself estimated; and sqrt(n / (n - 1)), as draws
    vary by so much less than the clusters do. From two clusters on.

    t by the expansion of Cornish and Fisher (Abramowitz and Stegun 26.7.5): 0.1 % too small from four clusters on.
    """
    n = num_clusters - 1
    terms = (
        (_Z**3 + _Z) / 4,
        (5 * _Z**5 + 16 * _Z**3 + 3 * _Z) / 96,
        (3 * _Z**7 + 19 * _Z**5 + 17 * _Z**3 - 15 * _Z) / 384,
        (79 * _Z**9 + 776 * _Z**7 + 1482 * _Z**5 - 1920 * _Z**3 - 945 * _Z) / 92_160,
    )
    t: float = _Z + sum(term / n**power for power, term in enumerate(terms, start=1))
    return t / _Z * math.sqrt(num_clusters / n)
