"""A full disk or a death, at any call: the index stays whole, and the next run goes on as if nothing had been."""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from homespun_indexer import layout
from tests.indexer.conftest import Indexer
from tests.indexer.faults import CALLS, DIED, Faults, full
from tests.indexer.work import Repair, Work

_HAS_ANOTHER_WAY = {"link", "mkdir", "rename"}
"""Copied instead, there already, tried again."""


@pytest.fixture(params=[Work, Repair])
def work(request: pytest.FixtureRequest, tmp_path: Path, indexer: Indexer, monkeypatch: pytest.MonkeyPatch) -> Work:
    monkeypatch.setattr(layout, "_QUICK_BYTES", 0)
    kind: type[Work] = request.param
    return kind(tmp_path, indexer)


def test_a_full_disk_at_any_call_leaves_a_whole_index_and_the_next_run_is_as_ever(work: Work, tmp_path: Path) -> None:
    for number in itertools.count(1):
        root = tmp_path / "full" / str(number)
        indexer = work.copy(root)
        faults = Faults(number, full)
        with pytest.MonkeyPatch.context() as patch:
            faults.install(patch.setattr, CALLS)
            try:
                indexer.index(work.repository)
            except OSError as error:
                assert error.errno == 28
            else:
                assert faults.count < number or faults.failed in _HAS_ANOTHER_WAY
        if faults.count < number:
            break
        work.check(root)
        shutil.rmtree(root)
    assert number > work.least_calls


def test_a_death_at_any_call_leaves_a_whole_index_and_the_next_run_is_as_ever(work: Work, tmp_path: Path) -> None:
    results = tmp_path / "dead"
    command = [sys.executable, "-m", "tests.indexer.faults", str(work.repository), str(work.template), str(results)]
    # Without threads there is nothing in the process that forks that a fork would leave behind.
    own = os.environ | {"TOKENIZERS_PARALLELISM": "false", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        command, cwd=Path(__file__).parents[2], env=own, capture_output=True, text=True, check=True, timeout=100
    )
    ended = list(map(int, done.stdout.split()))
    assert ended == [*[DIED] * (len(ended) - 1), 0], done.stderr
    assert len(ended) > work.least_calls
    for number in range(1, len(ended) + 1):
        work.check(results / str(number))
