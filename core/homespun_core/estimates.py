"""A measured value with its 95 % interval, as reports on disk have it and people read it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from statistics import NormalDist

Z = NormalDist().inv_cdf(0.975)
"""Half the width of a 95 % interval, in standard errors that are known."""

UNKNOWN = "not known"
"""An interval whose ends are None: places of one commit alone don't say how much others would differ."""


def spelled(estimate: Mapping[str, float | None], form: str) -> str:
    value, ends = format(estimate["value"], form), (estimate["low"], estimate["high"])
    return f"{value} [{UNKNOWN if None in ends else ', '.join(format(end, form) for end in ends)}]"


def widening(num_clusters: int) -> float:
    """Student's t over the normal quantile, for the error that is itself estimated; and sqrt(n / (n - 1)), as draws
    vary by so much less than the clusters do. From two clusters on.

    t by the expansion of Cornish and Fisher (Abramowitz and Stegun 26.7.5): 0.1 % too small from four clusters on.
    """
    n = num_clusters - 1
    terms = (
        (Z**3 + Z) / 4,
        (5 * Z**5 + 16 * Z**3 + 3 * Z) / 96,
        (3 * Z**7 + 19 * Z**5 + 17 * Z**3 - 15 * Z) / 384,
        (79 * Z**9 + 776 * Z**7 + 1482 * Z**5 - 1920 * Z**3 - 945 * Z) / 92_160,
    )
    t: float = Z + sum(term / n**power for power, term in enumerate(terms, start=1))
    return t / Z * math.sqrt(num_clusters / n)
