"""Processes that torchrun starts, with the real torchrun: they make what one makes, and end together."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from homespun_core.errors import ConfigError
from homespun_core.types import ModelFiles
from homespun_trainer import launched
from homespun_trainer.learner import Plan
from tests.repos import make_repo
from tests.trainer.test_parallel import train
from tests.trainer.tiny import CPU, make_model

_SCRIPT = """\
import json, os, sys
from pathlib import Path
import torch
from homespun_core.types import ModelFiles
from homespun_trainer import launched
if os.environ.get("GPU"):
    torch.cuda.is_available = lambda: True
if launched.is_helper():
    sys.exit(launched.help_out("cpu"))
from tests.trainer.test_parallel import train
from tests.trainer.tiny import CONFIG
files = ModelFiles(name="tiny", path=sys.argv[1], family=None, digest="d", config=CONFIG)
for name in ("first", "second"):  # as trials and the run itself do
    result = train(files, Path(sys.argv[2]) / name, 1)
if os.environ.get("DIE"):
    os._exit(9)
Path(sys.argv[2], "state.json").write_text(json.dumps([result.state.step, result.state.tokens]))
launched.dismiss("cpu")
"""


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> ModelFiles:
    return make_model(tmp_path_factory.mktemp("model"))


def torchrun(*words: str, **environ: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", *words]
    root = str(Path(__file__).parents[2])
    path = os.pathsep.join([root, os.environ.get("PYTHONPATH", "")])
    env = os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo", **environ}
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=180, check=False)


def test_two_launched_processes_make_the_adapter_that_one_makes(files: ModelFiles, tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(_SCRIPT)
    done = torchrun(str(tmp_path / "script.py"), files.path, str(tmp_path))
    assert done.returncode == 0, done.stderr[-2_000:]
    alone = train(files, tmp_path / "alone", 1)
    assert json.loads((tmp_path / "state.json").read_text()) == [alone.state.step, alone.state.tokens]
    weights = [load_file(p / "adapter_model.safetensors") for p in (alone.path, tmp_path / "second" / "adapter")]
    assert all(torch.allclose(weights[0][k], weights[1][k], atol=2e-3) for k in weights[0])


def test_processes_on_cpus_meet_where_there_is_a_gpu_too(files: ModelFiles, tmp_path: Path) -> None:
    """With `device = "cpu"` the first one waited for the others at one place and they for it at another, for days."""
    (tmp_path / "script.py").write_text(_SCRIPT)
    done = torchrun(str(tmp_path / "script.py"), files.path, str(tmp_path), GPU="1")
    assert done.returncode == 0, done.stderr[-2_000:]


def test_when_the_first_one_dies_the_others_end(files: ModelFiles, tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(_SCRIPT)
    assert torchrun(str(tmp_path / "script.py"), files.path, str(tmp_path), DIE="1").returncode != 0


def test_the_command_itself_under_torchrun(tmp_path: Path) -> None:
    """Also where there is nothing to train, and so no plan to be told."""
    repo = make_repo(tmp_path / "r", {"a.py": "x = 1\n"})
    words = ["train", str(repo), f"--data-dir={tmp_path / 'data'}"]
    done = torchrun("-m", "homespun_core.cli", *words)
    assert done.returncode == 0, done.stderr[-2_000:]
    assert done.stdout.count("too little to train on") == 1


def test_asking_for_more_processes_than_were_launched_is_refused(
    files: ModelFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    plan = Plan(files=files, placement=CPU, method="lora", rank=4, seed=0, parent=None)
    with pytest.raises(ConfigError, match="torchrun started 2 already"):
        launched.workers_for(plan, 2)


@pytest.mark.parametrize(("environ", "is_helper"), [({}, False), ({"RANK": "0", "WORLD_SIZE": "2"}, False),
    ({"RANK": "1", "WORLD_SIZE": "2"}, True), ({"RANK": "0", "WORLD_SIZE": "1"}, False)])  # fmt: skip
def test_who_is_a_helper(environ: dict[str, str], is_helper: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    assert launched.is_helper() is is_helper
