"""Numbers to the geometry of a chart, which `charts.html` draws as SVG with its numbers as a table beside it. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby

from homespun_core.estimates import spelled

WIDTH, HEIGHT = 640.0, 220.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 56.0, 12.0, 12.0, 28.0
_ROW, _LABEL, _NUMBERS = 34.0, 210.0, 170.0
_MAX_X_TICKS = 7


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    label: str
    values: Sequence[float | None]
    """One for each place on the x axis; None is a gap."""


@dataclass(frozen=True, slots=True)
class Tick:
    at: float
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    label: str
    path: str
    dots: Sequence[tuple[float, float]]
    """Of values that have no neighbour: a line through one point can't be seen."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    title: str
    said: str
    """What it shows, for those who can't see it."""
    curves: Sequence[Curve]
    x_ticks: Sequence[Tick]
    y_ticks: Sequence[Tick]
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    """The same as a table."""
    left: float = _LEFT
    right: float = WIDTH - _RIGHT
    bottom: float = HEIGHT - _BOTTOM
    width: float = WIDTH
    height: float = HEIGHT


def line_chart(
    title: str, x_name: str, labels: Sequence[str], series: Sequence[Series], spell: Callable[[float], str]
) -> Chart:
    """Lines from zero up over the same x axis. All series have as many values as there are labels."""
    assert all(len(one.values) == len(labels) for one in series)
    known = [value for one in series for value in one.values if value is not None]
    top = max(known, default=0.0) or 1.0
    ticks = _round_steps(top)
    x = _scale(0.0, max(1.0, len(labels) - 1.0), _LEFT, WIDTH - _RIGHT)
    y = _scale(0.0, ticks[-1], HEIGHT - _BOTTOM, _TOP)
    every = math.ceil(len(labels) / _MAX_X_TICKS) or 1
    return Chart(
        title=title,
        said="; ".join(_said(one, spell) for one in series),
        curves=[_curve(one, x, y) for one in series],
        x_ticks=[Tick(x(n), labels[n]) for n in range(0, len(labels), every)],
        y_ticks=[Tick(y(value), spell(value)) for value in ticks],
        head=[x_name, *(one.label for one in series)],
        rows=[[label, *(_spelled(one.values[n], spell) for one in series)] for n, label in enumerate(labels)],
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A value with its 95 % interval, if that is known."""

    label: str
    value: float
    low: float | None
    high: float | None
    tone: str = ""
    """`good`, `bad` or nothing, where the interval has zero in it."""

    @property
    def text(self) -> str:
        return spelled({"value": self.value, "low": self.low, "high": self.high}, "+.3f")


@dataclass(frozen=True, slots=True, kw_only=True)
class Whisker:
    estimate: Estimate
    y: float
    low: float
    value: float
    high: float
    """Without an interval all three are one place."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Forest:
    title: str
    said: str
    rows: Sequence[Whisker]
    zero: float
    width: float
    height: float


def forest(title: str, estimates: Sequence[Estimate]) -> Forest:
    """Each row has a scale of its own, since bits and shares don't compare; all have their zero in the middle."""
    middle, half = _LABEL + (WIDTH - _LABEL - _NUMBERS) / 2, (WIDTH - _LABEL - _NUMBERS) / 2 - 8
    rows = []
    for number, one in enumerate(estimates):
        ends = [one.value if end is None else end for end in (one.low, one.high)]
        reach = max(map(abs, (*ends, one.value))) or 1.0
        low, value, high = (round(middle + half * v / reach, 1) for v in (ends[0], one.value, ends[1]))
        rows.append(Whisker(estimate=one, y=_ROW * (number + 0.5), low=low, value=value, high=high))
    said = "; ".join(f"{one.label}: {one.text}" for one in estimates)
    return Forest(title=title, said=said, rows=rows, zero=middle, width=WIDTH, height=_ROW * len(estimates))


def _scale(low: float, high: float, start: float, end: float) -> Callable[[float], float]:
    return lambda value: round(start + (value - low) / (high - low) * (end - start), 1)


def _round_steps(top: float, most: int = 4) -> list[float]:
    """From zero to the first round number that `top` doesn't pass."""
    rough = top / most
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * n for n in (1, 2, 2.5, 5, 10) if power * n >= rough * (1 - 1e-9))
    return [round(step * n, 12) for n in range(math.ceil(top / step - 1e-9) + 1)]


def _curve(series: Series, x: Callable[[float], float], y: Callable[[float], float]) -> Curve:
    parts, dots = [], []
    for is_gap, run in groupby(enumerate(series.values), key=lambda pair: pair[1] is None):
        points = [] if is_gap else [(x(n), y(value)) for n, value in run if value is not None]
        if len(points) == 1:
            dots += points
        elif points:
            parts.append("M" + " L".join(f"{a:g} {b:g}" for a, b in points))
    return Curve(label=series.label, path=" ".join(parts), dots=dots)


def _said(series: Series, spell: Callable[[float], str]) -> str:
    known = [value for value in series.values if value is not None]
    if not known:
        return f"{series.label}: nothing yet"
    return f"{series.label}: last {spell(known[-1])}, between {spell(min(known))} and {spell(max(known))}"


def _spelled(value: float | None, spell: Callable[[float], str]) -> str:
    return "–" if value is None else spell(value)
