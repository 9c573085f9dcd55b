from __future__ import annotations

import math
from pathlib import Path

import pytest

from homespun_core.types import ModelFiles
from homespun_trainer.checkpoint import RunState
from homespun_trainer.sweep import Trial, best, is_wanted, sweep
from homespun_trainer.train import TrainingInterruptedError, TrainResult, learning_rate_at
from tests.trainer.test_pipeline import corpus, make_job, run
from tests.trainer.test_train import train as train_once
from tests.trainer.tiny import make_model, recipe

RATES = (1e-3, 2e-3, 4e-3)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> ModelFiles:
    return make_model(tmp_path_factory.mktemp("model"))


class Runs:
    """Training that only says how well it went, and is interrupted at one learning rate."""

    def __init__(self, interrupted_at: float | None = None) -> None:
        self.made: list[float] = []
        self.interrupted_at = interrupted_at

    def __call__(self, rate: float, folder: Path) -> TrainResult:
        folder.mkdir(parents=True, exist_ok=True)
        if rate == self.interrupted_at:
            raise TrainingInterruptedError
        self.made.append(rate)
        state = RunState(step=7, dev_losses=[(3, 9.0), (7, abs(rate - 2e-3) + 1)])
        return TrainResult(path=folder, state=state, learning_rate=rate, num_trainable=1)


def test_the_learning_rate_of_the_lowest_loss_is_taken(tmp_path: Path) -> None:
    trials = sweep(tmp_path / "run", "f", RATES, Runs())
    assert [t.learning_rate for t in trials] == list(RATES) and best(trials, 9.0) == 2e-3
    assert not (tmp_path / "run" / "trials").exists()


def test_a_killed_sweep_makes_only_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(TrainingInterruptedError):
        sweep(tmp_path / "run", "f", RATES, Runs(interrupted_at=2e-3))
    assert (tmp_path / "run" / "trials" / "0.002").is_dir(), "its checkpoint is still needed"
    again = Runs()
    sweep(tmp_path / "run", "f", RATES, again)
    assert again.made == [2e-3, 4e-3]


def test_trials_and_checkpoint_of_another_corpus_are_not_used(tmp_path: Path) -> None:
    sweep(tmp_path / "run", "old", RATES, Runs())
    (tmp_path / "run" / "CURRENT").write_text("step-1")
    again = Runs()
    sweep(tmp_path / "run", "new", RATES, again)
    assert again.made == list(RATES) and not (tmp_path / "run" / "CURRENT").exists()


def test_trials_that_came_to_nothing_leave_the_usual_rate() -> None:
    bad = [Trial(learning_rate=r, loss=math.nan, steps=0) for r in RATES]
    assert best(bad, 5e-4) == 5e-4
    assert best([*bad, Trial(learning_rate=7e-3, loss=3.0, steps=1)], 5e-4) == 7e-3


@pytest.mark.parametrize(
    ("setting", "minutes", "rate", "held_out", "wanted"),
    [("auto", 19, 0, 24, False), ("auto", 20, 0, 24, True), ("auto", 60, 1e-3, 24, False), ("on", 1, 1e-3, 24, True),
     ("on", 60, 0, 0, False), ("off", 60, 0, 24, False)],
)  # fmt: skip
def test_when_it_is_tried(setting: str, minutes: float, rate: float, held_out: int, wanted: bool) -> None:
    assert is_wanted(setting, minutes, rate, held_out) is wanted


def test_the_report_names_what_was_tried_and_the_time_is_kept(files: ModelFiles, tmp_path: Path) -> None:
    outcome = run(make_job(files, tmp_path, corpus(num_documents=60), learning_rate_trials="on", train_minutes=0.1))
    training = outcome.report["training"]
    assert [t["learning_rate"] for t in training["trials"]] == pytest.approx([1e-2, 2e-2, 4e-2])
    lowest = min(training["trials"], key=lambda t: t["loss"])
    assert training["recipe"]["learning_rate"] == lowest["learning_rate"]
    assert training["recipe"]["minutes"] == pytest.approx(0.1 * 0.85)
    assert "Learning rates tried" in (outcome.path / "MODEL_CARD.md").read_text()


def test_a_small_corpus_ends_the_run_before_its_time_with_the_whole_schedule(files: ModelFiles, tmp_path: Path) -> None:
    how = recipe(minutes=60, max_targets=2_000)
    result = train_once(files, tmp_path, how)
    state = result.state
    assert state.is_done and state.targets >= 2_000 and state.elapsed_s < 600
    assert learning_rate_at(state.targets / 2_000, how, 1.0) == pytest.approx(how.final)
    assert len(state.losses) > 10
