"""How often each file is met in training: rare languages oftener than their share, recently changed files oftener than
old ones. Pure.

A file's weight multiplies its size. Within a language nothing but recency counts; the mean over all characters is 1.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

_TEMPERATURE = 0.8
"""Exponent on a language's share of all characters; 1 leaves the shares as they are."""
_FLOOR = 0.02
"""The least share a language is raised to, unless that is more than _MOST_REPEATED times its own."""
_MOST_REPEATED = 4.0
"""A rare language isn't met oftener than this relative to its size: it would be learned by heart."""
_NEW_BONUS, _HALF_LIFE_DAYS = 1.0, 180.0
"""A file changed at the cut counts twice as much as one that nobody touched for years."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Weighed:
    language: str
    characters: int
    """As far as they count."""
    changed: int | None
    """Seconds since 1970; None when unknown, which counts as old."""


def weights(files: Sequence[Weighed], now: int) -> list[float]:
    fresh = [_freshness(f.changed, now) for f in files]
    sizes: Counter[str] = Counter()
    mass: Counter[str] = Counter()
    for file, factor in zip(files, fresh, strict=True):
        sizes[file.language] += file.characters
        mass[file.language] += file.characters * factor  # type: ignore[assignment]
    shares = language_shares(sizes)
    total = sum(sizes.values())
    return [
        factor * shares[f.language] * total / mass[f.language] if mass[f.language] else 1.0
        for f, factor in zip(files, fresh, strict=True)
    ]


def language_shares(sizes: Counter[str]) -> dict[str, float]:
    """Of the examples, by language; they add up to 1."""
    total = sum(sizes.values())
    if not total:
        return dict.fromkeys(sizes, 1.0 / max(1, len(sizes)))
    plain = {name: size / total for name, size in sizes.items()}
    warm = {name: share**_TEMPERATURE for name, share in plain.items()}
    scale = sum(warm.values())
    raised = {n: min(max(warm[n] / scale, _FLOOR), _MOST_REPEATED * plain[n]) for n in plain}
    scale = sum(raised.values())
    return {name: share / scale for name, share in raised.items()}


def _freshness(changed: int | None, now: int) -> float:
    if changed is None:
        return 1.0
    days = max(0, now - changed) / 86_400
    return float(1.0 + _NEW_BONUS * 0.5 ** (days / _HALF_LIFE_DAYS))
