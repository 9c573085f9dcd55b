"""The fit is the minimum of what it minimises, and calibration errors are those that can be worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from homespun_server.feedback.filter.regression import calibration_error, fit, probabilities


@given(st.integers(0, 10_000), st.sampled_from([1e-3, 1.0, 30.0]), st.floats(0.5, 100.0))
def test_the_fit_is_where_the_penalised_loss_is_flat(seed: int, penalty: float, scale: float) -> None:
    dice = np.random.default_rng(seed)
    x = dice.normal(size=(60, 3)) * [1.0, scale, 0.0]
    y = (dice.random(60) < probabilities(x[:, 0])).astype(float)
    y[:2] = 0.0, 1.0
    weight = dice.choice([1.0, 20.0], size=60)
    found = fit(x, y, weight, penalty=penalty)
    residual = weight * (probabilities(found.logits(x)) - y)
    assert np.allclose(x.T @ residual + penalty * found.weights, 0, atol=1e-2 * scale)
    assert abs(residual.sum()) < 1e-2


def test_data_that_a_line_separates_has_a_finite_fit() -> None:
    x = np.array([[-1.0], [-2.0], [1.0], [2.0]])
    found = fit(x, np.array([0.0, 0.0, 1.0, 1.0]), np.ones(4), penalty=0.1)
    assert 0 < found.weights[0] < 50


def test_known_weights_are_found_again() -> None:
    dice = np.random.default_rng(3)
    x = dice.normal(size=(20_000, 2))
    y = (dice.random(20_000) < probabilities(0.5 + x @ [1.5, -0.7])).astype(float)
    found = fit(x, y, np.ones(20_000), penalty=1.0)
    assert [found.intercept, *found.weights] == pytest.approx([0.5, 1.5, -0.7], abs=0.08)


@pytest.mark.parametrize(("foretold", "error"), [(0.5, 0.0), (0.8, 0.3), (0.1, 0.4)])
def test_the_calibration_error_is_how_far_what_is_foretold_lies_from_what_happens(
    foretold: float, error: float
) -> None:
    y = np.tile([0.0, 1.0], 50)
    assert calibration_error(np.full(100, foretold), y, np.ones(100)) == pytest.approx(error, abs=1e-9)


def test_an_example_that_stands_for_twenty_counts_twenty_times() -> None:
    p, y = np.array([0.5, 0.5]), np.array([1.0, 0.0])
    assert calibration_error(p, y, np.array([20.0, 1.0]), num_bins=1) == pytest.approx(20 / 21 - 0.5)
