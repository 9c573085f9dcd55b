"""From what a regression foretells to what happens, where a slope alone can't mend it. Pure arrays.

Isotonic regression: the curve that never falls and fits best, by pooling neighbours that are out of order (Barlow,
Bartholomew, Bremner, Brunk 1972). It follows steps, which Platt's slope can't, and follows chance as well; so blocks
hold enough examples each, and it is used only where it foretells what it hasn't seen surely better.
"""

from __future__ import annotations

import numpy as np

from homespun_server.feedback.filter.regression import Array

Knots = tuple[tuple[float, float], ...]
"""(foretold, happens), both rising; between them a straight line, beyond them flat. None at all changes nothing."""

MIN_OF_BLOCK = 40.0
"""Examples, by weight."""
_FOLDS = 2
_SIGMAS = 2.0


def isotonic(p: Array, y: Array, weight: Array) -> Knots:
    """Blocks of neighbours, their means pooled until they rise, and drawn in a little from 0 and 1."""
    order = np.argsort(p, kind="stable")
    blocks = _pooled([np.array(block) for block in _blocks(p[order], y[order], weight[order])])
    return tuple((float(x / w), float((k + 0.5) / (w + 1))) for x, k, w in blocks)


def applied(knots: Knots, p: Array) -> Array:
    if not knots:
        return p
    found: Array = np.interp(p, [x for x, _ in knots], [y for _, y in knots])
    return found


def chosen(p: Array, y: Array, weight: Array) -> Knots:
    """Those of `isotonic`; none where they don't surely foretell better what was left out of them."""
    fold = np.arange(len(p)) % _FOLDS
    curved = np.array(p)
    for n in range(_FOLDS):
        rest, left_out = fold != n, fold == n
        curved[left_out] = applied(isotonic(p[rest], y[rest], weight[rest]), p[left_out])
    gains = weight * (_losses(p, y) - _losses(curved, y))
    spread = float(np.sqrt(((gains - gains.mean()) ** 2).sum()))
    return isotonic(p, y, weight) if spread and gains.sum() > _SIGMAS * spread else ()


def _blocks(p: Array, y: Array, weight: Array) -> list[tuple[float, float, float]]:
    """(sum of what is foretold, of what happens, of weights), each of at least MIN_OF_BLOCK but where there is less."""
    count = max(1, int(weight.sum() / MIN_OF_BLOCK))
    middle = (np.cumsum(weight) - weight / 2) / weight.sum()
    number = np.minimum((middle * count).astype(int), count - 1)
    sums = [np.bincount(number, weight * values, minlength=count) for values in (p, y, np.ones(len(p)))]
    return [(float(x), float(k), float(w)) for x, k, w in zip(*sums, strict=True) if w]


def _pooled(blocks: list[Array]) -> list[Array]:
    rising: list[Array] = []
    for block in blocks:
        rising.append(block)
        while len(rising) > 1 and _rate(rising[-2]) >= _rate(rising[-1]):
            last = rising.pop()
            rising[-1] = rising[-1] + last
    return rising


def _rate(block: Array) -> float:
    """As in `isotonic`, so that those rise too."""
    return float((block[1] + 0.5) / (block[2] + 1))


def _losses(p: Array, y: Array) -> Array:
    sure = np.clip(p, 1e-6, 1 - 1e-6)
    losses: Array = -(y * np.log(sure) + (1 - y) * np.log(1 - sure))
    return losses
