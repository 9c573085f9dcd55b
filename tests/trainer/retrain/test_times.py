from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homespun_core.config import Settings
from homespun_core.errors import ConfigError
from homespun_trainer.retrain.times import MACHINE, Times, times_of

BERLIN = ZoneInfo("Europe/Berlin")


def at(text: str, *, fold: int = 0) -> float:
    """In Berlin; of an hour that comes twice, the first or the second."""
    return datetime.fromisoformat(text).replace(tzinfo=BERLIN, fold=fold).timestamp()


def times(**settings: str) -> Times:
    return times_of(Settings(retrain_timezone="Europe/Berlin", **settings))  # type: ignore[arg-type]


def times_by_machine(**settings: str) -> Times:
    return times_of(Settings(**settings))  # type: ignore[arg-type]


@pytest.fixture
def machine_in_berlin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """By rules instead of a name: what the machine has of zones doesn't matter."""
    with monkeypatch.context() as patched:
        patched.setenv("TZ", "CET-1CEST,M3.5.0/2,M10.5.0/3")
        time.tzset()
        yield
    time.tzset()


both_zones = pytest.mark.parametrize("times", [times, times_by_machine], ids=["named", "machine's"])


def test_a_schedule_is_read_in_its_time_zone() -> None:
    nightly = times(retrain_schedule="30 2 * * 1-5")
    assert nightly.next_tick(at("2026-11-27 12:00")) == at("2026-11-30 02:30")  # a Friday, a Monday
    assert nightly.next_tick(at("2026-11-30 02:30")) == at("2026-12-01 02:30")


@both_zones
@pytest.mark.parametrize(
    ("schedule", "after", "tick"),
    [
        ("0 4 * * *", "2026-03-28 12:00", "2026-03-29 04:00"),
        ("0 4 * * *", "2026-10-24 12:00", "2026-10-25 04:00"),
        ("0 4 1 * *", "2026-03-02 12:00", "2026-04-01 04:00"),
        ("0 4 1 * *", "2026-10-02 12:00", "2026-11-01 04:00"),
        ("0 4 1 1,7 *", "2026-01-02 12:00", "2026-07-01 04:00"),
        ("*/30 * * * *", "2026-03-29 01:30", "2026-03-29 03:00"),
    ],
)
def test_a_tick_beyond_a_change_of_the_clocks_is_on_time(
    machine_in_berlin: None, times: Callable[..., Times], schedule: str, after: str, tick: str
) -> None:
    """By the machine's zone, the default, it came an hour late in spring and early in autumn."""
    assert times(retrain_schedule=schedule).next_tick(at(after)) == at(tick)


@both_zones
def test_a_time_that_the_clocks_skip_comes_all_the_same(machine_in_berlin: None, times: Callable[..., Times]) -> None:
    assert times(retrain_schedule="30 2 * * *").next_tick(at("2026-03-28 12:00")) == at("2026-03-29 03:00")


@both_zones
def test_a_time_that_comes_twice_is_one_tick(machine_in_berlin: None, times: Callable[..., Times]) -> None:
    """As Debian's cron does it. After a training that ended between the two, the next one was due at once."""
    nightly = times(retrain_schedule="30 2 * * *")
    first, second, next_day = at("2026-10-25 02:30"), at("2026-10-25 02:30", fold=1), at("2026-10-26 02:30")
    assert nightly.next_tick(at("2026-10-25 02:29")) == first == second - 3_600
    for after in (first, at("2026-10-25 02:45"), at("2026-10-25 02:15", fold=1), second, at("2026-10-25 03:00")):
        assert nightly.next_tick(after) == next_day


@both_zones
def test_what_runs_all_the_time_runs_in_both_of_an_hour_that_comes_twice(
    machine_in_berlin: None, times: Callable[..., Times]
) -> None:
    half_hourly = times(retrain_schedule="*/30 * * * *")
    ticks = [at("2026-10-25 01:30")]
    while ticks[-1] < at("2026-10-25 03:00"):
        ticks.append(half_hourly.next_tick(ticks[-1]) or 0.0)
    assert ticks == [ticks[0] + 1_800 * n for n in range(6)]


@given(
    st.floats(1_700_000_000, 1_900_000_000) | st.floats(at("2026-10-25 00:00"), at("2026-10-25 05:00")),
    st.sampled_from(["30 2 * * *", "*/20 * * * *", "15,45 1-3 * * 0", "0 * 13 * 5", "5 0 L * *"]),
)
def test_a_tick_is_always_later(after: float, schedule: str) -> None:
    tick = times(retrain_schedule=schedule).next_tick(after)
    assert tick is not None and tick > after


@given(
    st.floats(at("2026-01-01 00:00"), at("2036-01-01 00:00"))
    | st.floats(at("2026-10-25 00:00"), at("2026-10-25 05:00"))
)
@pytest.mark.usefixtures("machine_in_berlin")
def test_the_machines_clock_is_that_of_its_zone(moment: float) -> None:
    by_machine, by_name = datetime.fromtimestamp(moment, MACHINE), datetime.fromtimestamp(moment, BERLIN)
    assert by_machine.replace(tzinfo=None) == by_name.replace(tzinfo=None) and by_machine.fold == by_name.fold
    assert by_machine.astimezone(UTC) == by_name.astimezone(UTC)


@pytest.mark.parametrize(
    ("schedule", "ticks"),
    [
        (
            "0 2 13 * 5",
            ["2026-11-06", "2026-11-13", "2026-11-20", "2026-11-27", "2026-12-04", "2026-12-11", "2026-12-13"],
        ),
        ("0 2 13 * *", ["2026-11-13", "2026-12-13"]),
        ("0 2 * * 5", ["2026-11-06", "2026-11-13"]),
        ("0 2 */2 * 5", ["2026-11-13", "2026-11-27"]),
    ],
)
def test_day_of_month_or_day_of_week_as_cron_does_it(schedule: str, ticks: list[str]) -> None:
    """Either will do where both are named; both must fit where one begins with a star."""
    found, after = [], at("2026-11-01 12:00")
    for _ in ticks:
        after = times(retrain_schedule=schedule).next_tick(after) or 0.0
        found.append(after)
    assert found == [at(f"{day} 02:00") for day in ticks]


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
        {"retrain_schedule": "0 0 2 * * 1-5"},
        {"retrain_schedule": "0 2 * *"},
        {"retrain_schedule": "@daily"},
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


def test_six_fields_are_refused_by_their_number() -> None:
    """They were taken, with the seconds first, which is not what the setting says."""
    with pytest.raises(ConfigError, match=r"'0 0 2 \* \* 1-5' is no cron expression \(6 fields instead of 5\)"):
        times(retrain_schedule="0 0 2 * * 1-5")
