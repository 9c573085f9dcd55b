from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from homespun_core.types import ModelFiles, SilentProgress
from homespun_trainer.parallel import WorkerLostError
from homespun_trainer.train import TrainingInterruptedError, TrainResult, train_adapter
from tests.trainer.tiny import CPU, StepClock, make_model, make_stream, recipe


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> ModelFiles:
    return make_model(tmp_path_factory.mktemp("model"))


def train(files: ModelFiles, run: Path, num_processes: int, should_stop: Any = lambda: False) -> TrainResult:
    threads = torch.get_num_threads()
    try:
        return train_adapter(
            files,
            make_stream(),
            make_stream(seed=9).batch(0, 4),
            recipe(minutes=0.2, batch_examples=5),
            placement=CPU,
            run=run,
            fingerprint="f",
            progress=SilentProgress(),
            should_stop=should_stop,
            clock=StepClock(),
            num_processes=num_processes,
        )
    finally:
        assert torch.get_num_threads() == threads, "what is judged afterwards has all of them again"


def test_two_processes_make_the_adapter_that_one_makes(files: ModelFiles, tmp_path: Path) -> None:
    """Up to the order in which gradients are added; an interrupted run of two goes on with one."""
    alone = train(files, tmp_path / "a", 1)
    together = train(files, tmp_path / "b", 2)
    answers = iter([*[False] * 4, *[True] * 99])
    with pytest.raises(TrainingInterruptedError):
        train(files, tmp_path / "c", 2, lambda: next(answers))
    resumed = train(files, tmp_path / "c", 1)
    assert alone.state.step == together.state.step == resumed.state.step
    assert alone.state.tokens == together.state.tokens
    weights = [load_file(r.path / "adapter_model.safetensors") for r in (alone, together, resumed)]
    for others in weights[1:]:
        assert all(torch.allclose(weights[0][k], others[k], atol=2e-3) for k in others)
    losses = [[loss for _, loss in r.state.dev_losses] for r in (alone, together)]
    assert losses[0] == pytest.approx(losses[1], abs=1e-3)
    assert not multiprocessing.active_children()


def test_a_lost_process_ends_the_run_in_one_line_and_leaves_none_behind(files: ModelFiles, tmp_path: Path) -> None:
    steps = 0

    def kill_at_the_third() -> bool:
        nonlocal steps
        steps += 1
        if steps == 3:
            for child in multiprocessing.active_children():
                child.kill()
                child.join()
        return False

    with pytest.raises(WorkerLostError, match=r"^processes: .*goes on from the checkpoint$"):
        train(files, tmp_path, 2, kill_at_the_third)
    assert not multiprocessing.active_children()
    assert not torch.distributed.is_initialized()


_GROUP = """\
import os, signal, sys
from pathlib import Path
from homespun_trainer.interrupt import deferred_signals
from homespun_trainer.train import TrainingInterruptedError
from tests.trainer.test_parallel import train
from tests.trainer.tiny import make_model, step_of


def main(root):
    steps = 0
    with deferred_signals() as is_asked_to:

        def should_stop():
            nonlocal steps
            steps += 1
            if steps == 3:
                os.killpg(0, signal.SIGTERM)
            return is_asked_to() and steps >= 9

        try:
            train(make_model(root / "model"), root / "run", 2, should_stop)
        except TrainingInterruptedError:
            print("saved at", step_of(root / "run"))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
"""


def test_a_signal_to_all_processes_saves_a_checkpoint(tmp_path: Path) -> None:
    """As `timeout`, systemd and containers send it. The others ended at once, and the run was lost."""
    (tmp_path / "group.py").write_text(_GROUP)
    path = os.pathsep.join([str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, str(tmp_path / "group.py"), str(tmp_path)],
        env=os.environ | {"PYTHONPATH": path},
        start_new_session=True,
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert done.stdout.startswith("saved at "), done.stderr[-2_000:]
    assert int(done.stdout.split()[-1]) > 0


def test_a_process_lost_before_the_first_step_is_no_wait(
    files: ModelFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed while it loads the model, as one that runs out of memory is: to join such a one took half an hour, and
    Ctrl-C didn't end it."""
    start = SpawnProcess.start

    def start_and_kill(process: SpawnProcess) -> None:
        start(process)
        process.kill()

    monkeypatch.setattr(SpawnProcess, "start", start_and_kill)
    with pytest.raises(WorkerLostError, match=r"^processes: "):
        train(files, tmp_path, 2)
    assert not multiprocessing.active_children()
    assert not torch.distributed.is_initialized()
