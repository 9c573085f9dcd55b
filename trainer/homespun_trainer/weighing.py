"""Examples where people ask for completions and keep them: a language, and a file, counts for more or less than its
share of the code. Pure."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

from homespun_core.types import Document

MIN_DEMAND = 1_000
"""Places; fewer are some people's last days."""
MIN_KEPT = 20_000
"""Characters, as a score of people keep in some days; what fewer say of single files is chance."""
_LEAST, _MOST = 0.5, 2.0
_STEPS_PER_DOUBLING = 2
"""Factors are rounded, so that the same code isn't trained on again for every few completions more."""


def factors(demand: Mapping[str, int], documents: Sequence[Document]) -> Mapping[str, float]:
    """By language: half the way (as a power) from its share of the code to its share of what is asked for. Empty where
    too little was asked for."""
    sizes: Counter[str] = Counter()
    for document in documents:
        sizes[document.language] += round(document.mass)
    asked = {name: demand.get(name, 0) for name in sizes}
    total, size = sum(asked.values()), sum(sizes.values())
    if total < MIN_DEMAND or len(sizes) < 2:
        return {}
    return {name: _rounded(asked[name] / total, sizes[name] / size) for name in sorted(sizes)}


def file_factors(kept: Mapping[str, int], documents: Sequence[Document]) -> Mapping[str, float]:
    """By path, as above: half of what was kept counts as spread over all files by size, since that nobody was in a file
    for a month says little. Empty where too little was kept."""
    sizes = {document.path: document.mass for document in documents}
    total, size = sum(kept.get(path, 0) for path in sizes), sum(sizes.values())
    if total < MIN_KEPT or len(sizes) < 2:
        return {}
    shares = {path: (of / size, (kept.get(path, 0) / total + of / size) / 2) for path, of in sizes.items()}
    return {path: _rounded(asked, written) for path, (written, asked) in shares.items()}


def weighed(
    documents: Sequence[Document], by: Mapping[str, float], by_file: Mapping[str, float] | None = None
) -> list[Document]:
    """All together weigh what they did before."""
    of = by_file or {}
    heavier = [replace(d, weight=d.weight * by.get(d.language, 1.0) * of.get(d.path, 1.0)) for d in documents]
    before, after = (sum(d.mass for d in each) for each in (documents, heavier))
    return [replace(d, weight=round(d.weight * before / after, 4)) for d in heavier] if after else list(documents)


def _rounded(asked: float, written: float) -> float:
    raw = math.sqrt(asked / written) if written else 1.0
    bounded = min(_MOST, max(_LEAST, raw))
    return float(2 ** (round(math.log2(bounded) * _STEPS_PER_DOUBLING) / _STEPS_PER_DOUBLING))
