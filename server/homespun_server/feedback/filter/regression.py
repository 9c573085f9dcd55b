"""Logistic regression by Newton's method, and how well its probabilities are calibrated. Pure arrays."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

_MAX_STEPS = 50
_TOLERANCE = 1e-8


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    intercept: float
    weights: Array

    def logits(self, x: Array) -> Array:
        return self.intercept + x @ self.weights


def fit(x: Array, y: Array, weight: Array, *, penalty: float) -> Fit:
    """`x` is rows by features, `y` is 0 or 1. `penalty` is L2 on the weights, not on the intercept; above 0 it has one
    solution, whatever the data."""
    assert penalty > 0 and len(x) == len(y) == len(weight)
    rows = np.column_stack([np.ones(len(x)), x])
    ridge = np.full(rows.shape[1], penalty)
    ridge[0] = 1e-9  # so that a system with only one class can be solved at all
    beta = np.zeros(rows.shape[1])
    loss = _penalised(rows, y, weight, ridge, beta)
    for _ in range(_MAX_STEPS):
        step = _newton_step(rows, y, weight, ridge, beta)
        size = 1.0
        while (after := _penalised(rows, y, weight, ridge, beta - size * step)) > loss and size > _TOLERANCE:
            size /= 2
        beta, gained, loss = beta - size * step, loss - after, after
        if gained < _TOLERANCE:
            break
    return Fit(intercept=float(beta[0]), weights=beta[1:])


def _newton_step(rows: Array, y: Array, weight: Array, ridge: Array, beta: Array) -> Array:
    p = probabilities(rows @ beta)
    gradient = rows.T @ (weight * (p - y)) + ridge * beta
    hessian = (rows * (weight * p * (1 - p))[:, None]).T @ rows + np.diag(ridge)
    step: Array = np.linalg.solve(hessian, gradient).astype(np.float64)
    return step


def _penalised(rows: Array, y: Array, weight: Array, ridge: Array, beta: Array) -> float:
    return float(weight @ log_losses(rows @ beta, y) + ridge @ beta**2 / 2)


def probabilities(logits: Array) -> Array:
    p: Array = np.exp(-np.logaddexp(0.0, -logits))
    return p


def log_losses(logits: Array, y: Array) -> Array:
    """In nats, one each."""
    losses: Array = np.logaddexp(0.0, logits) - y * logits
    return losses


def calibration_error(p: Array, y: Array, weight: Array, *, num_bins: int = 5) -> float:
    """Expected calibration error: how far what is foretold is from what happens, in bins of equal weight."""
    order = np.argsort(p, kind="stable")
    p, y, weight = p[order], y[order], weight[order]
    middle = (np.cumsum(weight) - weight / 2) / weight.sum()
    bins = np.minimum((middle * num_bins).astype(int), num_bins - 1)
    gaps = np.bincount(bins, weight * (y - p), minlength=num_bins)
    return float(np.abs(gaps).sum() / weight.sum())
