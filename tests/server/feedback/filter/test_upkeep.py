"""A server that may hide trains its filter by itself: a real process, on what known tastes left in a real database."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from homespun_core import storage
from homespun_core.config import Settings
from homespun_core.paths import DataDir
from homespun_core.types import ModelFiles
from homespun_server import app
from homespun_server.database.opening import open_database
from homespun_server.feedback.filter.publishing import live
from homespun_server.feedback.filter.upkeep import Upkeep
from homespun_server.feedback.store import FeedbackStore
from tests.simulated_users import TASTE, lived, places, unfiltered

DAY = 86_400.0


def _settings(folder: Path) -> Settings:
    return Settings(data_dir=str(folder), show_filter="auto")


def _lived(data: DataDir, num_each: int) -> None:
    store = FeedbackStore(open_database("", data.database))
    store.write(list(lived(places(20, num_each, seed=1, start=time.time() - 9 * DAY), TASTE, unfiltered)))
    store.close()


def _trained(upkeep: Upkeep) -> bool:
    """Whether this look began a training; it has ended."""
    before = upkeep._process
    upkeep.look()
    if upkeep._process is before or upkeep._process is None:
        return False
    upkeep._process.wait(60)
    return True


def test_a_filter_is_trained_and_trained_again_a_day_later(tmp_path: Path) -> None:
    data, now = DataDir(tmp_path), [time.time()]
    _lived(data, 200)
    upkeep = Upkeep(_settings(tmp_path), lambda: now[0])
    assert _trained(upkeep)
    first = live(data.filters)
    assert first is not None and "published: " in data.log("feedback").read_text()
    assert not _trained(upkeep)
    assert not _trained(Upkeep(_settings(tmp_path), lambda: now[0])), "after a restart, or by another server"
    now[0] += DAY + 60
    assert _trained(upkeep) and data.log("feedback").read_text().count("published: ") == 2  # perhaps in one second


def test_with_too_little_to_learn_from_it_is_tried_once_a_day_and_nothing_is_hidden(tmp_path: Path) -> None:
    data, now = DataDir(tmp_path), [time.time()]
    _lived(data, 10)
    upkeep = Upkeep(_settings(tmp_path), lambda: now[0])
    assert _trained(upkeep) and not _trained(upkeep)
    assert live(data.filters) is None and "more shown completions" in data.log("feedback").read_text()
    now[0] += DAY + 60
    assert _trained(upkeep)


def test_a_filter_of_next_year_is_not_waited_for(tmp_path: Path) -> None:
    data, later = DataDir(tmp_path), time.time() + 365 * DAY
    _lived(data, 200)
    assert _trained(Upkeep(_settings(tmp_path)))
    made = storage.current(data.filters)
    assert made is not None
    os.utime(made, (later, later))
    assert _trained(Upkeep(_settings(tmp_path)))
    assert not _trained(Upkeep(_settings(tmp_path)))


def test_what_was_tried_by_a_clock_that_was_ahead_is_tried_again(tmp_path: Path) -> None:
    now = [time.time() + 365 * DAY]
    _lived(DataDir(tmp_path), 10)
    upkeep = Upkeep(_settings(tmp_path), lambda: now[0])
    assert _trained(upkeep)
    now[0] -= 365 * DAY
    assert _trained(upkeep) and not _trained(upkeep)


@pytest.mark.parametrize(
    ("changes", "does_it"), [({}, True), ({"show_filter": "off"}, False), ({"feedback_days": 0.0}, False)]
)
def test_only_a_server_that_may_hide_and_remembers_does_it(
    builtin: ModelFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, object], does_it: bool
) -> None:
    made: list[Upkeep] = []

    class Noted(Upkeep):
        def __init__(self, settings: Settings) -> None:
            super().__init__(settings)
            made.append(self)

    monkeypatch.setattr(app, "Upkeep", Noted)
    settings = {"data_dir": str(tmp_path), "show_filter": "auto"} | changes
    application = app.build_app(Settings(**settings), builtin)  # type: ignore[arg-type]
    application.state.runtime.close()
    assert bool(made) == does_it
