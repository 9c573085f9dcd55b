"""What a soak concludes from its samples. That it runs is seen by running it: `make soak`."""

from __future__ import annotations

import importlib
import math
import sys
from pathlib import Path
from typing import Any

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def soak() -> Any:
    if str(BENCHMARKS) not in sys.path:
        sys.path.append(str(BENCHMARKS))
    return importlib.import_module("soak")


def noise(i: int) -> float:
    return (i * 7919 % 13 - 6) / 3


def samples(soak: Any, minutes: int = 120, mb_an_hour: float = 0.0, **changes: Any) -> list[Any]:
    """One each minute, of a server that begins with 500 MB, which take 10 minutes to be there."""
    made = []
    for minute in range(minutes):
        mb = 500 - 40 * max(0, 10 - minute) + mb_an_hour * minute / 60 + noise(minute)
        usage = [soak.Usage(name="serve", mb=mb, fds=40 + minute % 3, threads=20)]
        fields = {"passing": 0, "generations": 3, "p50": 80.0, "p95": 200.0, "failed": 0, "is_same": True}
        made.append(soak.Sample(at_s=minute * 60.0, usage=usage, **(fields | changes)))
    return made


def bad(soak: Any, seen: list[Any], is_running: bool = True) -> list[str]:
    verdicts, _ = soak.judged(seen, is_running)
    found = [what for what, _, is_good in verdicts.rows if is_good is False]
    assert verdicts.is_good == (not found)
    return found


def test_a_line_has_its_slope_whatever_a_few_points_say(soak: Any) -> None:
    line = [(60.0 * i, 100 + 2 * i / 60) for i in range(60)]
    assert soak.slope(line).value == pytest.approx(2)
    wild = [(x, 1e6 if i % 10 == 3 else y) for i, (x, y) in enumerate(line)]
    assert soak.slope(wild).value == pytest.approx(2, abs=0.5)


def test_the_interval_holds_the_slope_and_few_points_say_nothing(soak: Any) -> None:
    found = soak.slope([(60.0 * i, 2 * i / 60 + noise(i)) for i in range(90)])
    assert found.low < 2 < found.high and found.high - found.low < 2
    assert soak.slope([(60.0 * i, float(i)) for i in range(4)]) is None
    five = soak.slope([(60.0 * i, float(i)) for i in range(5)])
    assert five.low <= 60 <= five.high


def test_a_server_that_warms_up_and_then_stays_as_it_is_is_good(soak: Any) -> None:
    assert bad(soak, samples(soak)) == []


@pytest.mark.parametrize(("mb_an_hour", "expected"), [(0.5, []), (20, ["serve: MB"])])
def test_memory_that_surely_grows_faster_than_allowed_is_bad(soak: Any, mb_an_hour: float, expected: list[str]) -> None:
    assert bad(soak, samples(soak, mb_an_hour=mb_an_hour)) == expected


def test_of_less_than_half_an_hour_nothing_is_said_about_memory(soak: Any) -> None:
    verdicts, _ = soak.judged(samples(soak, minutes=40, mb_an_hour=200), True)
    assert {what: is_good for what, _, is_good in verdicts.rows}["serve: MB"] is None


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"generations": 4}, "index generations"),
        ({"is_same": False}, "the same text"),
        ({"is_same": None}, "the same text"),
        ({"failed": 1}, "failed requests"),
    ],
)
def test_each_of_the_others_alone_is_bad(soak: Any, change: dict[str, Any], what: str) -> None:
    assert bad(soak, samples(soak, **change)) == [what]


def test_one_that_ended_is_bad_also_before_the_first_sample(soak: Any) -> None:
    assert bad(soak, samples(soak), is_running=False) == ["it runs to the end"]
    assert "it runs to the end" in bad(soak, [], is_running=False)


def test_what_is_reported_is_json(soak: Any) -> None:
    """Which has no infinity: an interval without limits has none."""
    _, slopes = soak.judged(samples(soak, minutes=10), True)
    assert slopes and all(v is None or math.isfinite(v) for values in slopes.values() for v in values)
