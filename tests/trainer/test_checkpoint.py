from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from homespun_core import storage
from homespun_trainer import checkpoint
from homespun_trainer.checkpoint import Checkpoint, RunState
from tests.trainer.tiny import make_model, step_of

ROOT = Path(__file__).parents[2]

# Trains on a clock of its own: a run is some twenty steps long, and saves after each, however fast the machine.
WORKER = """
import sys
from pathlib import Path
from homespun_core.types import SilentProgress
from homespun_trainer.train import train_adapter
from tests.trainer.tiny import CPU, Asked, StepClock, make_model, make_stream, recipe

root, asked = Path(sys.argv[1]), Asked(make_stream())
result = train_adapter(
    make_model(root / "model"), asked, [], recipe(minutes=float(sys.argv[2])), placement=CPU, run=root / "run",
    fingerprint="f", progress=SilentProgress(), should_stop=lambda: False, clock=StepClock(40.0),
)
print(asked.steps[0], result.state.step, result.path)
"""


def start(root: Path, minutes: float) -> subprocess.Popen[str]:
    paths = os.pathsep.join([str(ROOT), *sys.path])
    return subprocess.Popen(
        [sys.executable, "-c", WORKER, str(root), str(minutes)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"},
    )


def wait_for_step(run: Path, step: int) -> None:
    deadline = time.monotonic() + 100
    while time.monotonic() < deadline:
        if step_of(run) >= step:
            return
        time.sleep(0.005)
    raise AssertionError("no checkpoint in time")


def test_a_run_killed_with_sigkill_goes_on_at_its_checkpoint_and_finishes(tmp_path: Path) -> None:
    make_model(tmp_path / "model")
    minutes = 40.0
    worker = start(tmp_path, minutes)
    wait_for_step(tmp_path / "run", 4)
    worker.send_signal(signal.SIGKILL)
    worker.communicate()
    assert worker.returncode == -signal.SIGKILL
    reached = step_of(tmp_path / "run")
    out, _ = (last := start(tmp_path, minutes)).communicate(timeout=100)
    assert last.returncode == 0
    first, step, path = out.split()
    assert int(first) == reached < int(step)
    assert load_file(Path(path) / "adapter_model.safetensors")
    assert not list(tmp_path.rglob("*.pt")) and not list(tmp_path.rglob("*.bin")) and not list(tmp_path.rglob("*.pkl"))
    assert {p.suffix for p in (tmp_path / "run").rglob("*") if p.is_file()} <= {".json", ".safetensors", ""}


def some_checkpoint(step: int) -> Checkpoint:
    weights = {"a": torch.arange(4.0) + step}
    return Checkpoint(
        state=RunState(step=step, elapsed_s=1.5 * step, losses=[(10, 1.0, 2.5)], dev_losses=[(1, 2.0)]),
        weights=weights,
        optimiser={"a/exp_avg": torch.ones(4), "a/step": torch.tensor(3.0)},
        best={},
    )


def test_what_is_saved_is_what_is_loaded(tmp_path: Path) -> None:
    checkpoint.save(tmp_path, "f", some_checkpoint(7))
    loaded = checkpoint.load(tmp_path, "f")
    assert loaded is not None and loaded.state == some_checkpoint(7).state
    assert torch.equal(loaded.weights["a"], some_checkpoint(7).weights["a"])
    assert loaded.best == {} and loaded.optimiser["a/step"].item() == 3.0


def test_only_the_newest_checkpoint_stays(tmp_path: Path) -> None:
    for step in (1, 2, 3):
        checkpoint.save(tmp_path, "f", some_checkpoint(step))
    assert len([p for p in tmp_path.iterdir() if p.is_dir()]) == 1
    loaded = checkpoint.load(tmp_path, "f")
    assert loaded is not None and loaded.state.step == 3


def test_a_damaged_checkpoint_is_discarded_with_a_reason(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    checkpoint.save(tmp_path, "f", some_checkpoint(1))
    path = storage.current(tmp_path)
    assert path is not None
    (path / "weights.safetensors").write_bytes(b"half of it")
    assert checkpoint.load(tmp_path, "f") is None
    assert "damaged" in caplog.text
    assert checkpoint.load(tmp_path, "f") is None


def test_a_run_ends_after_four_looks_without_gain() -> None:
    state = RunState()
    best = []
    for step, loss in enumerate([3.0, 2.0, 2.1, 2.2, 1.9, 2.0, 2.0, 2.0], 1):
        state.step = step
        best.append(state.note_held_out(loss))
        assert not state.is_done
    state.note_held_out(1.95)
    assert state.is_done and state.best_step == 5
    assert best == [True, True, False, False, True, False, False, False]


def test_no_checkpoint_is_a_fresh_start(tmp_path: Path) -> None:
    assert checkpoint.load(tmp_path / "nothing", "f") is None
