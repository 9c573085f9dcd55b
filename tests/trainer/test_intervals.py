from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from homespun_trainer.intervals import mean, ratio

VALUES = st.lists(st.floats(-5, 5, allow_nan=False), min_size=2, max_size=40)


@settings(max_examples=25, deadline=None)
@given(VALUES)
def test_no_difference_gives_an_interval_around_zero(values: list[float]) -> None:
    estimate = mean([v - v for v in values], list(range(len(values))))
    assert estimate.low <= 0.0 <= estimate.high and estimate.value == 0.0


@settings(max_examples=25, deadline=None)
@given(VALUES, st.floats(-3, 3, allow_nan=False))
def test_shifting_every_value_shifts_the_interval(values: list[float], shift: float) -> None:
    clusters = [i // 2 for i in range(len(values))]
    before, after = mean(values, clusters), mean([v + shift for v in values], clusters)
    for name in ("value", "low", "high"):
        assert math.isclose(getattr(after, name), getattr(before, name) + shift, abs_tol=1e-9)


def test_places_of_one_commit_count_as_one_observation() -> None:
    values = [0.0, 0.0, 0.0, 0.0, 1.0, 1.0, 1.0, 1.0] * 4
    alone, together = mean(values, range(len(values))), mean(values, [i // 4 for i in range(len(values))])
    assert together.high - together.low > 1.5 * (alone.high - alone.low)


def test_a_ratio_weighs_places_by_their_size() -> None:
    assert ratio([10.0, 1.0], [100.0, 1.0], ["a", "b"]).value == pytest.approx(11 / 101)


def test_the_same_seed_gives_the_same_interval() -> None:
    values = [0.1, 0.5, 0.9, 0.3]
    assert mean(values, range(4), seed=3) == mean(values, range(4), seed=3)


def test_no_data_is_refused() -> None:
    with pytest.raises(ValueError, match="nothing"):
        mean([], [])
