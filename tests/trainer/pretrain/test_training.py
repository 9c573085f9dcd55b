from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from homespun_core.errors import ModelError, StorageError
from homespun_core.types import SilentProgress
from homespun_trainer.placement import Placement
from homespun_trainer.pretrain import state as states
from homespun_trainer.pretrain import training
from homespun_trainer.pretrain.loss import summed_loss
from homespun_trainer.pretrain.model import Size, new_model
from homespun_trainer.pretrain.shards import Shards
from homespun_trainer.pretrain.state import State
from homespun_trainer.pretrain.training import Recipe, pretrain
from homespun_trainer.train import TrainingInterruptedError
from tests.trainer.pretrain.rows import make_rows
from tests.trainer.tiny import CPU, StepClock

SIZE = Size(layers=2, width=32, heads=2, kv_heads=1, inner=48)
RECIPE = Recipe(tokens=24_000, minutes=None, batch_tokens=2_048, micro_tokens=1_024, seed=0, warm_up=3)


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Shards:
    return make_rows(tmp_path_factory.mktemp("rows"))


def model(rows: Shards) -> Any:
    info = rows.info
    return new_model(SIZE, vocabulary=info["vocabulary"], end=info["end"], pad=info["pad"], seed=0)


def run(
    rows: Shards,
    folder: Path,
    recipe: Recipe = RECIPE,
    *,
    should_stop: Callable[[], bool] = lambda: False,
    placement: Placement = CPU,
    fingerprint: str = "f",
    is_compiled: bool = False,
) -> tuple[State, dict[str, torch.Tensor]]:
    trained = model(rows)
    state = pretrain(
        trained,
        rows,
        recipe,
        placement=placement,
        run=folder,
        fingerprint=fingerprint,
        facts={"from": "nothing"},
        progress=SilentProgress(),
        should_stop=should_stop,
        is_compiled=is_compiled,
        clock=StepClock(),
    )
    return state, {name: p.detach().clone() for name, p in trained.named_parameters()}


@pytest.fixture(scope="module")
def finished(rows: Shards, tmp_path_factory: pytest.TempPathFactory) -> tuple[State, dict[str, torch.Tensor], Path]:
    folder = tmp_path_factory.mktemp("run")
    return *run(rows, folder), folder


def after(count: int) -> Callable[[], bool]:
    asked = 0

    def should_stop() -> bool:
        nonlocal asked
        asked += 1
        return asked > count

    return should_stop


def test_it_learns(finished: tuple[State, dict[str, torch.Tensor], Path]) -> None:
    state, _, _ = finished
    assert state.losses[-1][2] < 0.85 * state.losses[0][2]
    looks = [loss for _, phase, loss in state.held_out if phase == "first"]
    assert looks[-1] < 0.85 * looks[0]


def test_the_second_phase_begins_where_the_recipe_says(finished: tuple[State, dict[str, torch.Tensor], Path]) -> None:
    state, _, _ = finished
    first, second = state.rows["first"] * 1_024, state.rows["second"] * 2_048
    assert abs(first / (first + second) - RECIPE.second_phase) < 0.15


@pytest.mark.parametrize("questions", [1, 2, 11])
def test_a_run_that_was_stopped_ends_in_the_same_weights(
    rows: Shards,
    finished: tuple[State, dict[str, torch.Tensor], Path],
    tmp_path: Path,
    questions: int,
) -> None:
    """Stopped between steps and half-way through one."""
    with pytest.raises(TrainingInterruptedError):
        run(rows, tmp_path, should_stop=after(questions))
    state, weights = run(rows, tmp_path)
    assert (state.step, state.tokens, state.rows) == (finished[0].step, finished[0].tokens, finished[0].rows)
    assert all(torch.equal(weights[name], weight) for name, weight in finished[1].items())


def test_a_killed_run_goes_on_from_its_last_checkpoint(
    rows: Shards,
    finished: tuple[State, dict[str, torch.Tensor], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As kill -9 would: nothing is saved at the end, and a half-written checkpoint lies about."""
    monkeypatch.setattr(training, "_SAVE_EVERY_S", 2.0)

    def killed() -> bool:
        if asked():
            raise KeyboardInterrupt
        return False

    asked = after(11)
    with pytest.raises(KeyboardInterrupt):
        run(rows, tmp_path, should_stop=killed)
    saved = states.load(tmp_path, "f")
    assert saved is not None and 0 < saved.state.step < finished[0].step
    (tmp_path / ".tmp-step-9-999999").mkdir()
    _, weights = run(rows, tmp_path)
    assert all(torch.equal(weights[name], weight) for name, weight in finished[1].items())


def test_a_finished_run_has_nothing_to_do(rows: Shards, finished: tuple[State, dict[str, torch.Tensor], Path]) -> None:
    state, weights = run(rows, finished[2])
    assert state.step == finished[0].step
    assert all(torch.equal(weights[name], weight) for name, weight in finished[1].items())


def test_another_run_in_the_same_folder_is_refused_and_kept(
    rows: Shards, finished: tuple[State, dict[str, torch.Tensor], Path]
) -> None:
    with pytest.raises(StorageError, match="another --run"):
        run(rows, finished[2], fingerprint="other")
    assert states.load(finished[2], "f") is not None


def test_the_size_of_a_forward_pass_is_no_matter_of_the_result(
    rows: Shards, finished: tuple[State, dict[str, torch.Tensor], Path], tmp_path: Path
) -> None:
    _, weights = run(rows, tmp_path, dataclasses.replace(RECIPE, micro_tokens=4_096))
    for name, weight in finished[1].items():
        torch.testing.assert_close(weights[name], weight, rtol=0.02, atol=0.02)


def test_bfloat16_learns_as_fp32_does(
    rows: Shards, finished: tuple[State, dict[str, torch.Tensor], Path], tmp_path: Path
) -> None:
    state, _ = run(rows, tmp_path, placement=Placement(torch.device("cpu"), torch.bfloat16))
    assert abs(state.losses[-1][2] - finished[0].losses[-1][2]) < 0.2


def test_memory_that_runs_out_makes_smaller_passes(
    rows: Shards, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    summed = summed_loss

    def short_of_memory(hidden: torch.Tensor, head: torch.Tensor, following: torch.Tensor) -> torch.Tensor:
        if len(hidden) > 2_048:
            raise torch.OutOfMemoryError
        return summed(hidden, head, following)

    monkeypatch.setattr(training, "summed_loss", short_of_memory)
    state, _ = run(rows, tmp_path, dataclasses.replace(RECIPE, tokens=6_000, batch_tokens=4_096, micro_tokens=4_096))
    assert state.tokens >= 6_000 and "out of memory: 2048 tokens" in caplog.text


def test_a_loss_that_is_not_finite_changes_no_weight(
    rows: Shards, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "summed_loss", lambda hidden, head, _: (hidden.sum() + head.sum()) * float("nan"))
    monkeypatch.setattr(training, "_LOOKS", 1)
    before = {name: p.detach().clone() for name, p in model(rows).named_parameters()}
    state, weights = run(rows, tmp_path, dataclasses.replace(RECIPE, tokens=4_000))
    assert state.step >= 2
    assert all(torch.equal(weights[name], weight) for name, weight in before.items())


def test_gradients_that_stay_infinite_end_the_run_and_leave_its_checkpoint(
    rows: Shards, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loss was finite and the gradient wasn't: weights became NaN, and the next save put them in the place of the
    last good ones."""
    recipe = dataclasses.replace(RECIPE, tokens=60_000)
    with pytest.raises(TrainingInterruptedError):
        run(rows, tmp_path, recipe, should_stop=after(4))
    good = states.load(tmp_path, "f")
    summed = summed_loss

    def infinite(hidden: torch.Tensor, head: torch.Tensor, following: torch.Tensor) -> torch.Tensor:
        loss = summed(hidden, head, following)
        return loss + torch.sqrt(torch.abs(hidden.sum() - hidden.sum().detach()))  # its slope at nothing is infinite

    monkeypatch.setattr(training, "summed_loss", infinite)
    monkeypatch.setattr(training, "_SAVE_EVERY_S", 1.0)
    with pytest.raises(ModelError, match="10 steps in a row"):
        run(rows, tmp_path, recipe)
    saved = states.load(tmp_path, "f")
    assert good is not None and saved is not None
    assert all(torch.equal(saved.weights[name], weight) for name, weight in good.weights.items())


def test_layers_that_cannot_be_compiled_are_trained_as_they_are(
    rows: Shards, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As on a machine without a C++ compiler."""
    recipe = dataclasses.replace(RECIPE, tokens=6_000)
    _, plain = run(rows, tmp_path / "plain", recipe)

    def broken(self: torch.nn.Module, **options: Any) -> None:
        def call(*args: Any, **kwargs: Any) -> Any:
            raise RuntimeError("Compiler: c++ is not found.")

        self._compiled_call_impl = call

    monkeypatch.setattr(torch.nn.Module, "compile", broken)
    _, weights = run(rows, tmp_path / "compiled", recipe, is_compiled=True)
    assert "aren't compiled" in caplog.text
    assert all(torch.equal(weights[name], weight) for name, weight in plain.items())


@pytest.mark.parametrize(
    ("step", "tokens", "rate"),
    [(0, 0, 0.1), (4, 100, 0.5), (50, 500, 1.0), (90, 850, 0.5), (99, 999, 0.02), (120, 1_200, 0.02)],
)
def test_the_rate_rises_stays_and_falls(step: int, tokens: int, rate: float) -> None:
    recipe = dataclasses.replace(RECIPE, tokens=1_000, warm_up=10)
    assert recipe.rate(State(step=step, tokens=tokens)) == pytest.approx(rate)


def test_whichever_budget_is_used_first_ends_the_run() -> None:
    both = dataclasses.replace(RECIPE, tokens=1_000, minutes=1.0)
    assert both.fraction(State(tokens=500, elapsed_s=15)) == 0.5
    assert both.fraction(State(tokens=500, elapsed_s=60)) == 1.0
    assert dataclasses.replace(both, tokens=None).fraction(State(tokens=500, elapsed_s=15)) == 0.25
