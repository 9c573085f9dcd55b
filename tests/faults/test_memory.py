"""Processes that get no more memory: rows 28 and 29. A kernel that kills for want of it is `kill -9`, see there."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.faults, pytest.mark.timeout(300)]


def without_more_memory(*words: str) -> subprocess.CompletedProcess[str]:
    """In one arena: else each thread has tens of megabytes in reserve."""
    return subprocess.run(
        [sys.executable, "-m", "tests.faults.out_of_memory", *words],
        env=os.environ | {"MALLOC_ARENA_MAX": "1"},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )


def test_an_engine_without_memory_refuses_the_large_completion_and_goes_on_with_small_ones() -> None:
    done = without_more_memory("engine")
    assert done.returncode == 0, done.stderr
    assert "no memory for keys and values" in done.stdout


def test_a_training_without_memory_makes_smaller_passes_with_the_same_gradient_and_then_says_so(tmp_path: Path) -> None:
    done = without_more_memory("training", str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert "out of memory: 1024 tokens in a forward pass from now on" in done.stderr
    assert "not enough memory" in done.stdout
