from __future__ import annotations

import ctypes.util
import os
import sys
from collections.abc import Mapping, Sequence

import pytest

from homespun_core.allocator import restart_with_jemalloc
from homespun_core.cli import main

Call = tuple[str, Sequence[str], Mapping[str, str]]


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[Call]:
    """What this process would have become."""
    made: list[Call] = []
    monkeypatch.setattr(os, "execve", lambda *call: made.append(call))
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("PYTHONSAFEPATH", "1")  # a command sets it for its children: gone again after the test
    monkeypatch.delenv("LD_PRELOAD", raising=False)
    monkeypatch.delenv("MALLOC_CONF", raising=False)
    return made


def test_the_same_command_goes_on_with_jemalloc(calls: list[Call], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes.util, "find_library", lambda name: f"lib{name}.so.2")
    restart_with_jemalloc(["-m", "homespun_core.cli", "train", "shop", "--seed", "1"])
    ((program, argv, environ),) = calls
    assert program == argv[0] == sys.executable
    assert list(argv[1:]) == ["-m", "homespun_core.cli", "train", "shop", "--seed", "1"]
    assert environ["LD_PRELOAD"] == "libjemalloc.so.2" and environ["PATH"] == os.environ["PATH"]


@pytest.mark.parametrize("name", ["LD_PRELOAD", "MALLOC_CONF"])
def test_what_somebody_has_chosen_stays(calls: list[Call], monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(ctypes.util, "find_library", lambda name: f"lib{name}.so.2")
    monkeypatch.setenv(name, "")
    restart_with_jemalloc(["-m", "homespun_core.cli", "train", "shop"])
    assert not calls


def test_without_jemalloc_nothing_happens(calls: list[Call], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes.util, "find_library", lambda _name: None)
    restart_with_jemalloc(["-m", "homespun_core.cli", "train", "shop"])
    assert not calls


def test_a_command_called_from_python_stays_in_its_process(calls: list[Call], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes.util, "find_library", lambda name: f"lib{name}.so.2")
    with pytest.raises(SystemExit):
        main(["train", "--help"])
    assert not calls


def test_only_training_restarts(calls: list[Call], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes.util, "find_library", lambda name: f"lib{name}.so.2")
    for verb, expected in (("status", 0), ("train", 1), ("forget", 2)):
        monkeypatch.setattr(sys, "argv", ["homespun", verb, "--help"])
        with pytest.raises(SystemExit):
            main()
        assert len(calls) == expected
