from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homespun_core.config import Settings
from homespun_core.errors import ConfigError
from homespun_trainer.retrain.times import Times, times_of

BERLIN = ZoneInfo("Europe/Berlin")


def at(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=BERLIN).timestamp()


def times(**settings: str) -> Times:
    return times_of(Settings(retrain_timezone="Europe/Berlin", **settings))  # type: ignore[arg-type]


def test_a_schedule_is_read_in_its_time_zone() -> None:
    nightly = times(retrain_schedule="30 2 * * 1-5")
    assert nightly.next_tick(at("2026-11-27 12:00")) == at("2026-11-30 02:30")  # a Friday, a Monday
    assert nightly.next_tick(at("2026-11-30 02:30")) == at("2026-12-01 02:30")


def test_a_time_that_the_clocks_skip_comes_all_the_same() -> None:
    assert times(retrain_schedule="30 2 * * *").next_tick(at("2026-03-28 12:00")) == at("2026-03-29 03:00")


@pytest.mark.parametrize(
    ("now", "opens"),
    [
        ("2026-11-28 21:59", "2026-11-28 22:00"),
        ("2026-11-28 22:00", "2026-11-28 22:00"),
        ("2026-11-28 23:59", "2026-11-28 23:59"),
        ("2026-11-29 05:59", "2026-11-29 05:59"),
        ("2026-11-29 06:00", "2026-11-29 22:00"),
    ],
)
def test_a_window_over_midnight(now: str, opens: str) -> None:
    assert times(retrain_window="22:00-06:00").opens(at(now)) == at(opens)


@given(st.floats(1_700_000_000, 1_900_000_000), st.integers(0, 23), st.integers(0, 23))
def test_a_window_opens_within_a_day_and_is_open_then(now: float, start: int, end: int) -> None:
    if start == end:
        return
    window = times(retrain_window=f"{start:02}:00-{end:02}:00")
    opens = window.opens(now)
    assert now <= opens <= now + 25 * 3_600
    assert window.opens(opens) == opens


@pytest.mark.parametrize(
    "settings",
    [
        {"retrain_schedule": "every night"},
        {"retrain_schedule": "0 25 * * *"},
        {"retrain_window": "22-6"},
        {"retrain_window": "22:00-24:00"},
        {"retrain_window": "22:00-22:00"},
        {"retrain_timezone": "Berlin"},
        {"retrain_timezone": "../../etc/passwd"},
    ],
)
def test_what_makes_no_sense_is_refused_with_a_remedy(settings: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match="like") as refused:
        times_of(Settings(**settings))  # type: ignore[arg-type]
    assert "\n" not in str(refused.value)
