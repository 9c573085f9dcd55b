from __future__ import annotations

from itertools import accumulate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homespun_server.engine.budget import (
    Acceptance,
    RowPlan,
    StepBudget,
    StepCosts,
    best_size,
    choose_budget,
    lowest,
    measure_costs,
    measure_unless,
)
from homespun_server.engine.trees import Branches, chain
from tests.server.engine.hash_decoder import ROW_BYTES, HashDecoder

FLAT = ((1, 1.0), (8, 1.1), (16, 1.2), (32, 1.4))
STEEP = ((1, 1.0), (2, 1.9), (8, 7.5), (32, 40.0))


@pytest.mark.parametrize(
    ("rows", "prefill", "expected"),
    [
        (FLAT, ((64, 2.0), (128, 4.0), (256, 8.0)), (32, 256, 16)),
        (FLAT, ((64, 9.0), (128, 18.0), (256, 40.0)), (32, 64, 16)),
        (FLAT, ((32, 15.0), (64, 30.0), (128, 60.0)), (32, 32, 16)),  # even 32 take too long: no less than that
        (STEEP, ((64, 4.0), (128, 8.0)), (8, 128, 1)),
        (((1, 300.0), (8, 320.0), (32, 700.0)), ((32, 1000.0),), (8, 32, 7)),  # a large model
        (((1, 5.0),), ((64, 4.0),), (1, 128, 0)),
        # Measured, one thread. In int8 the last 64 of 920 tokens take 12.8 ms; in float32 32 would waste too much.
        (FLAT, ((32, 3.6), (64, 6.7), (128, 13.2), (256, 28.6)), (32, 64, 16)),
        (FLAT, ((32, 18.1), (64, 29.5), (128, 48.0), (256, 88.3)), (32, 64, 16)),
    ],
)
def test_the_budget_follows_from_what_steps_cost(
    rows: tuple[tuple[int, float], ...], prefill: tuple[tuple[int, float], ...], expected: tuple[int, int, int]
) -> None:
    budget = choose_budget(StepCosts(rows=rows, prefill=prefill))
    assert (budget.max_rows, budget.prefill_chunk, budget.max_nodes) == expected


@pytest.mark.parametrize(("prefill", "is_quick"), [(((64, 4.0), (256, 16.0)), False), (((64, 1.2), (256, 1.9)), True)])
def test_no_prompt_is_long_where_a_chunk_takes_hardly_longer_than_a_step(
    prefill: tuple[tuple[int, float], ...], is_quick: bool
) -> None:
    budget = choose_budget(StepCosts(rows=FLAT, prefill=prefill))
    assert (budget.max_quick > 100_000) is is_quick and budget.max_quick >= 32


def test_measuring_gives_costs_of_every_size_that_fits_and_leaves_nothing_behind() -> None:
    costs = measure_costs(HashDecoder(0))
    assert [n for n, _ in costs.rows] == [1, 2, 4, 8, 16, 32] and [n for n, _ in costs.prefill] == [32, 64, 128, 256]
    assert costs.row_bytes == ROW_BYTES and all(ms > 0 for _, ms in costs.rows + costs.prefill)
    assert [n for n, _ in measure_costs(HashDecoder(0, can_crop=False)).rows] == [1]


def test_measuring_ends_where_the_decoder_is_wanted() -> None:
    for num_forwards in (1, 3, 9):
        decoder = HashDecoder(0)
        assert measure_unless(decoder, lambda d=decoder, n=num_forwards: len(d.batches) >= n) is None  # type: ignore[misc]
        assert len(decoder.batches) == num_forwards


def test_of_two_measurements_what_was_quicker_counts_and_less_never_takes_longer() -> None:
    busy = StepCosts(rows=((1, 9.0), (2, 9.5), (4, 10.0)), prefill=((64, 40.0),), row_bytes=ROW_BYTES)
    idle = StepCosts(rows=((1, 1.0), (2, 9.9), (4, 1.5), (8, 2.0)), prefill=((64, 4.0), (128, 8.0)))
    expected = StepCosts(
        rows=((1, 1.0), (2, 1.5), (4, 1.5), (8, 2.0)), prefill=((64, 4.0), (128, 8.0)), row_bytes=ROW_BYTES
    )
    assert lowest(busy, idle) == lowest(expected, busy) == expected


def test_as_many_nodes_are_verified_as_pay() -> None:
    flat, steep = [1.0 + 0.01 * n for n in range(40)], [float(n) for n in range(40)]
    assert best_size([0.5, 0.3, 0.1, 0.001], flat, 0.0, num_rows=1, expected=1.0) == 3
    assert best_size([0.9, 0.9], steep, 0.0, num_rows=1, expected=1.0) == 0
    assert best_size([0.9, 0.9], steep, 20.0, num_rows=1, expected=1.0) == 2  # a prompt makes the step long anyway
    assert best_size([], flat, 0.0, num_rows=1, expected=1.0) == 0


def test_drafts_share_the_rows_of_a_forward() -> None:
    budget = StepBudget(max_rows=12, prefill_chunk=64, max_nodes=8, max_quick=32)
    plan = RowPlan(StepCosts(rows=FLAT, prefill=((64, 4.0),)), budget)
    plan.begin(num_deciding=2, num_prefill=0)
    assert plan.max_nodes == 8 and plan.take([0.9] * 20) == 8
    assert plan.max_nodes == 2 and plan.take([0.9] * 20) == 2
    assert plan.max_nodes == 0
    plan.begin(num_deciding=1, num_prefill=0)
    assert plan.take_remembered(50) == 31 and plan.take([0.9]) == 0
    plan.begin(num_deciding=1, num_prefill=0)
    assert plan.take_remembered(5) == 5 and plan.max_nodes == 6


MEASURED = ((1, 0.65), (2, 0.74), (4, 0.92), (8, 1.28), (16, 2.0), (32, 3.44))
"""On two cores, in int8: 0.09 ms a row."""


@pytest.mark.parametrize(
    ("rows", "num_deciding", "num_prefill", "expected"),
    [
        (MEASURED, 1, 0, 0.17),  # what was the best of several that were tried there
        (MEASURED, 4, 0, 0.49),
        (MEASURED, 8, 0, 0.5),  # together they have made good use of the step already
        (MEASURED, 1, 64, 0.05),  # a prompt makes the step long anyway
        (FLAT, 1, 0, 0.05),
        (STEEP, 1, 0, 0.5),
    ],
)
def test_how_likely_a_guess_must_be_follows_from_what_a_row_costs_there(
    rows: tuple[tuple[int, float], ...], num_deciding: int, num_prefill: int, expected: float
) -> None:
    costs = StepCosts(rows=rows, prefill=((64, 4.0), (256, 16.0)))
    plan = RowPlan(costs, StepBudget(max_rows=16, prefill_chunk=64, max_nodes=8, max_quick=32))
    plan.begin(num_deciding, num_prefill)
    assert plan.min_chance == pytest.approx(expected, abs=0.005)


@given(st.lists(st.floats(0.001, 1e4), min_size=6, max_size=6), st.integers(1, 40), st.lists(st.floats(0, 1)))
def test_it_is_a_chance_whatever_was_measured(more_ms: list[float], num_deciding: int, chances: list[float]) -> None:
    costs = StepCosts(rows=tuple(zip((1, 2, 4, 8, 16, 32), accumulate(more_ms), strict=True)), prefill=((64, 4.0),))
    plan = RowPlan(costs, choose_budget(costs))
    plan.begin(num_deciding, 0)
    for _ in range(3):
        assert 0.05 <= plan.min_chance <= 0.5
        plan.take(chances)


def test_acceptance_is_learned_by_depth_and_rank() -> None:
    acceptance, tree = Acceptance(), Branches()
    for parent, token in ((-1, 1), (-1, 2), (1, 3), (1, 4)):
        tree.add(parent, token)
    for _ in range(200):
        acceptance.learn(tree, [1, 3])
    chances = acceptance.chances(tree)
    assert chances[0] < 0.01 and chances[1] > 0.99 and chances[2] < 0.01 and chances[3] > 0.98
    for _ in range(200):
        acceptance.relax()
    assert acceptance.chances(chain([1, 2])) == pytest.approx([0.5, 0.25], abs=0.05)
