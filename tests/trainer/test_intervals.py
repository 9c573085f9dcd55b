from __future__ import annotations

import json
import math
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from homespun_trainer.intervals import (
    RESAMPLES,
    Estimate,
    Share,
    Swaps,
    change,
    mean,
    ratio,
    surely_above_zero,
    widening,
)

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
    assert ratio(Share(tops=[10.0, 1.0], bottoms=[100.0, 1.0]), ["a", "b"]).value == pytest.approx(11 / 101)


def test_the_same_seed_gives_the_same_interval() -> None:
    values = [0.1, 0.5, 0.9, 0.3]
    assert mean(values, range(4), seed=3) == mean(values, range(4), seed=3)


@pytest.mark.parametrize("clusters", [2, 7, 300])
def test_draws_in_blocks_are_those_of_one_stream(clusters: int) -> None:
    """Whole numbers, so that no order of summing shows."""
    rng = np.random.default_rng(clusters)
    tops, bottoms = rng.integers(-50, 50, clusters).astype(float), rng.integers(1, 90, clusters).astype(float)
    at_once = np.random.default_rng(5).multinomial(clusters, np.full(clusters, 1 / clusters), size=RESAMPLES)
    value = tops.sum() / bottoms.sum()
    ends = np.nanpercentile((at_once @ tops) / (at_once @ bottoms), [2.5, 97.5])
    low, high = value + (ends - value) * widening(clusters)
    share = Share(tops=tops.tolist(), bottoms=bottoms.tolist())
    assert ratio(share, range(clusters), seed=5) == Estimate(value=value, low=low, high=high)


def test_what_an_estimate_needs_of_memory_is_a_byte_for_each_draw() -> None:
    """Of 1,000 clusters it was 160 MB, and half of that was kept, four times."""
    tracemalloc.start()
    mean([float(n % 7) for n in range(1_000)], range(1_000), seed=8_128)
    kept, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert kept < 15e6 and most < 40e6


def test_no_data_is_refused() -> None:
    with pytest.raises(ValueError, match="nothing"):
        mean([], [])


@pytest.mark.parametrize(("clusters", "t"), [(4, 3.1824), (10, 2.2622), (20, 2.0930), (60, 2.0010), (1_000, 1.9623)])
def test_with_few_clusters_an_interval_is_as_wide_as_students(clusters: int, t: float) -> None:
    wanted = t / 1.959964 * math.sqrt(clusters / (clusters - 1))
    assert widening(clusters) == pytest.approx(wanted, rel=2e-3)


def test_of_one_commit_nothing_can_be_told() -> None:
    """Its interval was a point, the surest there is: an adapter that was worse at two lines of one commit was surely
    worse."""
    one = mean([0.5, 0.7], ["a", "a"])
    assert (one.value, one.is_known) == (0.6, False)
    assert one.low < 0 < one.high and surely_above_zero({"go": one}) == []
    assert one.as_json() == {"value": 0.6, "low": None, "high": None}
    assert "Infinity" not in json.dumps(one.as_json())


def test_commits_without_anything_to_divide_by_are_no_evidence() -> None:
    """Such as of lines that were right so far: all may be of one commit."""
    alone = ratio(Share(tops=[1, 0, 0], bottoms=[2, 0, 0]), ["a", "b", "c"])
    assert alone.value == 0.5 and not alone.is_known
    taken, dismissed = Share(tops=[1, 0], bottoms=[1, 0]), Share(tops=[0, 3], bottoms=[0, 1])
    assert not change(taken, dismissed, ["a", "b"]).is_known


@pytest.mark.parametrize("odd", [math.nan, math.inf, -math.inf])
def test_one_value_that_is_no_number_makes_nothing_sure(odd: float) -> None:
    fine, clusters = [1.0] * 20, range(20)
    ones = Share(tops=fine, bottoms=fine)
    other = Share(tops=[odd, *fine[1:]], bottoms=fine)
    for found in (ratio(other, clusters), change(ones, other, clusters), change(other, ones, clusters)):
        assert not found.is_number and not found.high < 0 and not found.low > 0
        assert surely_above_zero({"go": found}) == []
        assert found.as_json() == {"value": None, "low": None, "high": None}


@pytest.mark.parametrize("clusters", [10, 20])
def test_what_is_not_better_is_surely_better_in_one_of_forty_cases_whatever_the_number_of_commits(
    clusters: int,
) -> None:
    """It was in one of twenty, with ten commits."""
    rng = np.random.default_rng(7)
    found = [mean(rng.normal(size=clusters).tolist(), range(clusters)) for _ in range(2_000)]
    for wrong in ([e.high < 0 for e in found], [e.low > 0 for e in found]):
        assert sum(wrong) / len(found) == pytest.approx(0.025, abs=0.01)  # three standard errors


@settings(max_examples=25, deadline=None)
@given(VALUES)
def test_a_change_of_means_is_the_mean_of_the_changes(values: list[float]) -> None:
    ones, halves = [1.0] * len(values), [v / 2 for v in values]
    paired = change(Share(tops=values, bottoms=ones), Share(tops=halves, bottoms=ones), range(len(values)))
    direct = mean(halves, range(len(values)))
    for name in ("value", "low", "high"):
        assert math.isclose(getattr(paired, name), getattr(direct, name), abs_tol=1e-9)


def test_draws_without_anything_to_divide_by_are_left_out() -> None:
    estimate = ratio(Share(tops=[1, 0, 1], bottoms=[1, 0, 2]), ["a", "b", "c"])
    assert estimate.low < estimate.value == 2 / 3 < estimate.high
    with pytest.raises(ValueError, match="nothing"):
        ratio(Share(tops=[0.0], bottoms=[0.0]), ["a"])


@pytest.mark.parametrize(
    ("gained", "lost", "p"), [(0, 0, 1.0), (5, 0, 0.0625), (0, 6, 0.03125), (8, 2, 0.109375), (7, 7, 1.0)]
)
def test_mcnemar_by_hand(gained: int, lost: int, p: float) -> None:
    assert Swaps(gained=gained, lost=lost).p == pytest.approx(p)


def test_of_many_unsure_changes_none_is_sure_though_each_alone_would_be() -> None:
    """Holm: z = 1.8 is below 5 % alone, and not among ten."""
    unsure = Estimate(value=1.8, low=1.8 - 1.96, high=1.8 + 1.96)
    sure = Estimate(value=4.0, low=4.0 - 1.96, high=4.0 + 1.96)
    assert surely_above_zero({"go": unsure}) == ["go"]
    assert surely_above_zero({f"l{i}": unsure for i in range(10)}) == []
    assert surely_above_zero({"go": sure, **{f"l{i}": unsure for i in range(9)}}) == ["go"]
    assert surely_above_zero({"go": Estimate(value=-4.0, low=-5.0, high=-3.0)}) == []
