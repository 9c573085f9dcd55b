"""A job as a process: what its words and its end mean."""

from __future__ import annotations

import io
import json
import signal
from typing import Any

import pytest

from homespun_core.cli import BUSY
from homespun_core.progress import JsonProgress
from homespun_server.jobs.running import Ended, clean, command, ended, progress
from homespun_server.jobs.store import Step

JOB: dict[str, Any] = {
    "id": 1,
    "kind": "train",
    "fence": 7,
    "source": "shop",
    "repository": "shop-1",
    "commit": None,
}


@pytest.mark.parametrize(
    ("kind", "commit", "expected"),
    [
        ("index", None, ("index", ["--lease=7"])),
        ("index", "abc1234", ("index", ["--lease=7"])),
        ("train", None, ("train", ["--lease=7"])),
        ("train", "abc1234", ("train", ["--lease=7", "--commit=abc1234"])),
        ("evaluate", None, ("eval", [])),
    ],
)
def test_each_kind_is_a_verb(kind: str, commit: str | None, expected: tuple[str, list[str]]) -> None:
    assert command(JOB | {"kind": kind, "commit": commit}) == expected


def test_somebodys_own_adapter_is_trained_for_them() -> None:
    assert command(JOB | {"repository": "+u1+shop-1"}) == ("train", ["--lease=7", "--for=u1"])


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (0, Ended(ending="done")),
        (1, Ended(ending="failed", reason="no such directory")),
        (2, Ended(ending="impossible", reason="no such directory")),
        (BUSY, Ended(ending="given-back", reason="no such directory", pause_s=15.0)),
        (-signal.SIGSEGV, Ended(ending="failed", reason="killed by SIGSEGV")),
        (-signal.SIGKILL, Ended(ending="failed", reason="killed by SIGKILL (was there too little memory?)")),
    ],
)
def test_how_it_ended(status: int, expected: Ended) -> None:
    assert ended(status, "no such directory") == expected


def test_progress_is_understood_as_it_is_written() -> None:
    stream = io.StringIO()
    written = JsonProgress(stream)
    written.start("Reading", total=10, unit="files")
    written.advance(1)  # too soon to be told
    written.finish("10 files")
    written.start("Cloning")
    written.finish()
    steps = [found for found in map(progress, stream.getvalue().splitlines()) if found]
    assert len(steps) == 4
    assert steps[0][0] == Step(fraction=0.0, words="Reading: 0 of 10 files")
    assert steps[1][0].fraction == 1.0 and steps[1][1].startswith("Reading: 10 of 10 files: 10 files, 0.0 s")
    assert steps[2][0] == Step(fraction=None, words="Cloning")


@pytest.mark.parametrize("line", ["", "plain", "{", "{}", '{"step": 1}', "[1]", "null", '{"step":"a","done":"x"}'])
def test_what_is_no_progress_is_a_line_of_the_log(line: str) -> None:
    assert progress(line) is None


def test_a_hostile_line_is_made_harmless() -> None:
    line = "\x1b[31mred\x00 https://ann:secret@host/x " + "y" * 1_000
    assert "\x1b" not in clean(line) and "secret" not in clean(line) and len(clean(line)) == 400
    told = json.dumps({"step": line, "done": 5, "total": 3, "unit": "", "note": line})
    found = progress(told)
    assert found is not None and found[0].fraction == 1.0 and "secret" not in found[0].words
