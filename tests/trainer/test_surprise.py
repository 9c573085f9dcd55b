from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from hypothesis import given
from hypothesis import strategies as st

from homespun_trainer.batches import target_weight
from homespun_trainer.learner import Learner, Plan
from homespun_trainer.surprise import MAX_SURPRISAL, WINDOW, learnable
from tests.trainer.tiny import CPU, make_model, make_stream

ROWS = st.lists(st.lists(st.floats(0, 12, width=32), max_size=30), min_size=1, max_size=5)


def kept(rows: list[list[float]]) -> list[list[float]]:
    losses = torch.tensor([loss for row in rows for loss in row])
    weights = learnable(losses, [len(row) for row in rows], MAX_SURPRISAL)
    return [part.tolist() for part in weights.split([len(row) for row in rows])]


def test_six_tokens_that_nothing_leads_to_are_left_out_with_what_touches_them_at_most() -> None:
    secret = [7.0] * 8
    assert kept([[0.1] * 4 + secret + [0.1] * 4]) == [[1, 1, 1, 0, *[0] * len(secret), 0, 1, 1, 1]]


def test_a_surprising_name_is_learned() -> None:
    assert kept([[0.1, 9.0, 8.0, 1.0, 0.2, 3.0, 0.1], [12.0] * (WINDOW - 1)]) == [[1.0] * 7, [1.0] * 5]


@given(ROWS)
def test_what_counts_is_said_of_each_row_alone(rows: list[list[float]]) -> None:
    assert kept(rows) == [kept([row])[0] for row in rows]


@given(st.lists(st.floats(0, 12, width=32), max_size=40))
def test_nothing_is_left_out_but_whole_windows_of_surprise(row: list[float]) -> None:
    hopeless = {
        i + j
        for i in range(len(row) - WINDOW + 1)
        if torch.tensor(row[i : i + WINDOW]).mean() > MAX_SURPRISAL
        for j in range(WINDOW)
    }
    assert kept([row]) == [[float(i not in hopeless) for i in range(len(row))]]


def test_a_model_that_everything_surprises_learns_nothing_and_what_is_held_out_counts_all_the_same(
    tmp_path: Path,
) -> None:
    """What says when it is enough must not become less for being more surprising."""
    plan = Plan(files=make_model(tmp_path), placement=CPU, method="lora", rank=4, seed=0, parent=None)
    batch = make_stream().batch(0, 4)

    def after(max_surprisal: float) -> tuple[float, float, float | None]:
        made = Learner(replace(plan, max_surprisal=max_surprisal))
        loss = made.accumulate(batch, target_weight(batch))
        return float(made.masters.flat_gradient().abs().max()), made.held_out_loss(batch), loss

    gradient, held_out, loss = after(0.0)
    assert gradient > 0 and loss is not None and loss > 3
    assert after(1.0) == (0.0, held_out, 0.0)
