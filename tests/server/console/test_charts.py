from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homespun_server.console import losses
from homespun_server.console.charts import HEIGHT, WIDTH, Estimate, Series, forest, line_chart

VALUES = st.lists(st.none() | st.floats(0, 1e9), min_size=1, max_size=40)


@given(VALUES)
def test_every_value_has_its_place_in_the_picture(values: list[float | None]) -> None:
    chart = line_chart("t", "day", [str(n) for n in range(len(values))], [Series(label="s", values=values)], str)
    (curve,) = chart.curves
    numbers = [float(number) for number in re.findall(r"-?\d+(?:\.\d+)?(?:e[+-]\d+)?", curve.path)]
    places = [*zip(numbers[::2], numbers[1::2], strict=True), *curve.dots]
    assert len(places) == sum(value is not None for value in values) == sum(r[1] != "–" for r in chart.rows)
    assert all(0 <= x <= WIDTH and 0 <= y <= HEIGHT for x, y in places)
    assert 2 <= len(chart.y_ticks) <= 6 and chart.y_ticks[0].at > chart.y_ticks[-1].at


def test_a_gap_ends_a_line_and_a_lone_value_is_a_dot() -> None:
    series = Series(label="s", values=[1.0, 2.0, None, 3.0, None])
    (curve,) = line_chart("t", "day", list("abcde"), [series], str).curves
    assert curve.path.count("M") == 1 and len(curve.dots) == 1


def test_what_a_chart_shows_is_said_too() -> None:
    chart = line_chart("t", "day", ["a", "b"], [Series(label="kept", values=[2.0, 5.0])], lambda v: f"{v:g}")
    assert chart.said == "kept: last 5, between 2 and 5"
    assert chart.head == ["day", "kept"] and chart.rows == [["a", "2"], ["b", "5"]]


@pytest.mark.parametrize("value", [0.0, -3.0, 1e-9])
def test_an_interval_lies_around_zero_in_the_middle(value: float) -> None:
    plot = forest("t", [Estimate(label="bits", value=value, low=value - 1, high=value + 1)])
    (row,) = plot.rows
    assert 0 <= row.low <= row.value <= row.high <= WIDTH
    assert (row.low < plot.zero) == (value - 1 < 0) and (row.high > plot.zero) == (value + 1 > 0)


def test_an_unknown_interval_is_called_so_and_not_drawn() -> None:
    (row,) = forest("t", [Estimate(label="bits", value=2.0, low=None, high=None)]).rows
    assert row.low == row.value == row.high and row.estimate.text == "+2.000 [not known]"


def test_the_loss_of_a_training_is_drawn_with_that_of_held_out_files() -> None:
    training = {
        "steps": 4,
        "seconds": 8.0,
        "loss": [{"seconds": 2.0 * n, "tokens": n, "loss": 3.0 - n / 10} for n in range(5)],
        "held_out_loss": [{"step": 1, "loss": 2.0}, {"step": 4, "loss": 1.0}],
    }
    chart = losses.of_report(training)
    assert chart is not None
    assert [row[1:] for row in chart.rows] == [
        ["3.00", "–"],
        ["2.90", "2.00"],
        ["2.80", "1.67"],
        ["2.70", "1.33"],
        ["2.60", "1.00"],
    ]


@pytest.mark.parametrize("training", [{}, {"loss": [{"seconds": 1, "loss": 2}]}, {"loss": [{}, {}]}, {"loss": "x"}])
def test_a_report_without_a_curve_has_none(training: dict[str, object]) -> None:
    assert losses.of_report(training) is None
