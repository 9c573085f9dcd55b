"""System calls that kill an indexing, or fail in it, one after the other: rows 1, 2 and 9.

tests/indexer/test_interrupted.py does the same inside of Python, in a second; here nothing that the indexer's own
thread asks of the kernel is left out, SQLite's calls among it. git, a process of its own that only reads, isn't traced.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from homespun_core.paths import DataDir
from homespun_indexer import layout
from homespun_indexer.model_files import resolve_base_model
from homespun_indexer.tokenizer import load_tokenizer
from tests.faults.traced import FAILED
from tests.indexer.conftest import Indexer
from tests.indexer.work import Work

pytestmark = [pytest.mark.faults, pytest.mark.timeout(600)]
_RENAMES, _WRITES = "/^rename", "/^p?write(64)?$"


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Work:
    if shutil.which("strace") is None:
        pytest.skip("no strace; on Debian: apt-get install strace")
    root, model = tmp_path_factory.mktemp("calls"), resolve_base_model("builtin", "auto")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(layout, "_QUICK_BYTES", 0)
        return Work(root, Indexer(DataDir(root / "data"), model, load_tokenizer(model)))


@pytest.mark.parametrize(
    ("calls", "fault", "rest", "least"),
    [
        (_WRITES, "signal=KILL", "", 10),
        (_RENAMES, "signal=KILL", "", 3),
        ("fsync", "signal=KILL", "", 6),
        (_WRITES, "error=ENOSPC", "+", 10),
    ],
    ids=["kill at a write", "kill before a rename", "kill after a rename, before the fsync", "a disk full from here"],
)
def test_whichever_call_it_is_the_index_is_whole_and_the_next_run_is_as_ever(
    work: Work, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, calls: str, fault: str, rest: str, least: int
) -> None:
    monkeypatch.setattr(layout, "_QUICK_BYTES", 0)
    command = [sys.executable, "-m", "tests.faults.traced", str(work.repository), str(work.template), str(tmp_path)]
    done = subprocess.run(
        [*command, calls, fault, rest],
        cwd=Path(__file__).parents[2],
        env=os.environ | {"TOKENIZERS_PARALLELISM": "false", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    ended = list(map(int, done.stdout.split()))
    assert set(ended) == {0, -9 if fault == "signal=KILL" else FAILED}, done.stdout + done.stderr
    assert sum(map(bool, ended)) >= least, ended
    for number in range(1, len(ended) + 1):
        work.check(tmp_path / str(number))
