"""What people and programs read of a step while it runs."""

from __future__ import annotations

import io
import json

from homespun_core.progress import JsonProgress, PlainProgress


class Clock:
    """Stands still unless it is moved."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


def test_lines_say_how_long_the_rest_will_take_at_the_pace_so_far() -> None:
    stream, clock = io.StringIO(), Clock()
    progress = PlainProgress(stream, clock)
    progress.start("Reading", total=1_200, unit="files")
    for seconds, done in ((0.5, 0), (3, 100), (6, 300), (6, 800), (6, 1_300)):
        clock.now += seconds
        progress.advance(done)
    progress.finish("1,200 files")
    assert stream.getvalue().splitlines() == [
        "Reading ...",
        "Reading: 300 of 1,200 files, about 28 s left",  # 9.5 s for 300
        "Reading: 800 of 1,200 files, about 8 s left",
        "Reading: 1,300 of 1,200 files, about 0 s left",
        "Reading: 1,200 files, 21.5 s",
    ]


def test_programs_are_told_the_same_in_seconds() -> None:
    stream, clock = io.StringIO(), Clock()
    progress = JsonProgress(stream, clock)
    progress.start("Reading", total=1_200, unit="files")
    for seconds, done in ((0.5, 50), (1, 0), (1, 100), (2.5, 1_200)):
        clock.now += seconds
        progress.advance(done)
    progress.finish()
    rows = list(map(json.loads, stream.getvalue().splitlines()))
    assert [(row["done"], row.get("eta_s")) for row in rows] == [
        (0, None),
        (0, None),
        (100, 27.5),
        (1_200, 0),
        (1_200, None),
    ]
    assert rows[-1]["took_s"] == 5.0


def test_of_a_step_without_an_end_nothing_is_foretold() -> None:
    stream, told, clock = io.StringIO(), io.StringIO(), Clock()
    for progress in (PlainProgress(stream, clock), JsonProgress(told, clock)):
        progress.start("Reading the history")
        clock.now += 6
        progress.advance(4_000)
    assert stream.getvalue().splitlines()[-1] == "Reading the history: 4,000"
    assert json.loads(told.getvalue().splitlines()[-1])["eta_s"] is None


def test_what_an_earlier_run_did_is_no_pace_of_this_one() -> None:
    """It said 16 s to a training that was stopped after 22 minutes of 72 and had just gone on."""
    stream, told, clock = io.StringIO(), io.StringIO(), Clock()
    for progress in (PlainProgress(stream, clock), JsonProgress(told, clock)):
        progress.start("Training", total=4_320, unit="s", done=1_325)
        for done in (1_325, 1_331):
            clock.now += 6
            progress.advance(done)
    assert stream.getvalue().splitlines()[1:] == [
        "Training: 1,325 of 4,320 s",
        "Training: 1,331 of 4,320 s, about 5978 s left",
    ]
    rows = list(map(json.loads, told.getvalue().splitlines()))
    assert [(row["done"], row.get("eta_s")) for row in rows] == [(1_325, None), (1_325, None), (1_331, 5_978.0)]
