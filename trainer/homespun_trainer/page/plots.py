"""The plots of a report as inline SVG: nothing is loaded, colours follow the page's, and every plot says what it shows
to those who can't see it. Pure: numbers in, markup out."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from homespun_trainer.page.markup import Html, join, tag

_WIDTH = 760.0
_ROW = 30.0
_VALUE = 190.0
"""Room for a row's numbers on the right."""
_CHARACTER = 6.9
"""Width of one in a row's name on the left, at most."""
_AXIS = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """One row of a forest plot."""

    label: str
    value: float
    low: float | None
    high: float | None
    """None where they aren't known: there is a dot alone then."""
    text: str
    tone: str = ""
    """`good`, `bad` or nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    label: str
    points: Sequence[tuple[float, float]]
    is_marked: bool = False


def forest(title: str, rows: Sequence[Interval], *, zero: bool, spell: Callable[[float], str]) -> Html:
    """Values with their intervals on one axis; `zero`: the axis has a line at zero, which it then always shows."""
    ends = [x for row in rows for x in _span(row)] + ([0.0] if zero else [])
    axis = _Axis.around(ends, _room(row.label for row in rows), _WIDTH - _VALUE)
    bottom = _ROW * len(rows) + 8
    parts = [
        *(_tick(axis, at, bottom, spell(at)) for at in axis.ticks()),
        _rule(axis.place(0.0), bottom, "zero") if zero else None,
        *(_interval(row, axis, _ROW * (i + 0.5) + 4) for i, row in enumerate(rows)),
    ]
    said = "; ".join(f"{row.label}: {row.text}" for row in rows)
    return _picture(title, said, bottom + _AXIS, *parts)


def curves(title: str, lines: Sequence[Line], *, x_name: str, y_name: str) -> Html:
    """Lines over one x axis, told apart by their shape as well as by colour."""
    lines = [line for line in lines if line.points]
    height, left, top = 260.0, 58.0, 30.0
    x = _Axis.around([p[0] for line in lines for p in line.points], left, _WIDTH - 16)
    y = _Axis.around([p[1] for line in lines for p in line.points], height - 44, top)
    parts = [
        *(_tick(x, at, height - 44, f"{at:g}") for at in x.ticks()),
        *(_level(y, at, left) for at in y.ticks()),
        tag("text", x_name, x=(left + _WIDTH) / 2, y=height - 6, class_="axis", text_anchor="middle"),
        tag("text", y_name, x=left, y=16.0, class_="axis", text_anchor="middle"),
        *(_line(line, x, y, i) for i, line in enumerate(lines)),
        *(_legend(line, i, _WIDTH - 16 - 180.0 * (len(lines) - i)) for i, line in enumerate(lines)),
    ]
    said = "; ".join(f"{line.label}: from {line.points[0][1]:.3f} to {line.points[-1][1]:.3f}" for line in lines)
    return _picture(title, said, height, *parts)


def dots(title: str, rows: Sequence[tuple[str, Sequence[float]]], *, limit: float, most: float) -> Html:
    """Each row's values as dots, with a line at what may not be passed."""
    axis = _Axis.around([0.0, most], _room(label for label, _ in rows), _WIDTH - 60)
    bottom = _ROW * len(rows) + 8
    parts = [
        *(_tick(axis, at, bottom, f"{at:g}") for at in axis.ticks()),
        _rule(axis.place(limit), bottom, "limit"),
        *(_row_of_dots(label, values, axis, _ROW * (i + 0.5) + 4) for i, (label, values) in enumerate(rows)),
    ]
    said = "; ".join(f"{label}: {', '.join(f'{v:.1f}' for v in values)}" for label, values in rows)
    return _picture(title, said, bottom + _AXIS, *parts)


@dataclass(frozen=True, slots=True)
class _Axis:
    low: float
    high: float
    start: float
    end: float

    @staticmethod
    def around(values: Sequence[float], start: float, end: float) -> _Axis:
        low, high = min(values), max(values)
        margin = 0.06 * (high - low) or 1.0
        return _Axis(low - margin, high + margin, start, end)

    def place(self, value: float) -> float:
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)

    def ticks(self, most: int = 6) -> list[float]:
        """Round numbers, at most so many."""
        rough = (self.high - self.low) / most
        power = 10 ** math.floor(math.log10(rough))
        step = next(power * n for n in (1, 2, 2.5, 5, 10) if power * n >= rough)
        first = math.ceil(self.low / step)
        return [round(i * step, 10) + 0.0 for i in range(first, math.floor(self.high / step) + 1)]


def _room(labels: Iterable[str]) -> float:
    return 16 + _CHARACTER * max(len(label) for label in labels)


def _picture(title: str, said: str, height: float, *parts: Html | None) -> Html:
    return tag(
        "svg",
        tag("title", title),
        tag("desc", said),
        *parts,
        viewBox=f"0 0 {_WIDTH:g} {height:g}",
        role="img",
        class_="plot",
    )


def _tick(axis: _Axis, at: float, bottom: float, text: str) -> Html:
    x = axis.place(at)
    label = tag("text", text, x=x, y=bottom + 18, class_="axis", text_anchor="middle")
    return join(_rule(x, bottom, "grid"), label)


def _level(axis: _Axis, at: float, left: float) -> Html:
    y = axis.place(at)
    line = tag("line", x1=left, x2=_WIDTH - 16, y1=y, y2=y, class_="grid")
    return join(line, tag("text", f"{at:g}", x=left - 8, y=y + 4, class_="axis", text_anchor="end"))


def _rule(x: float, bottom: float, kind: str) -> Html:
    return tag("line", x1=x, x2=x, y1=2.0, y2=bottom, class_=kind)


def _interval(row: Interval, axis: _Axis, y: float) -> Html:
    value, (low, high) = axis.place(row.value), map(axis.place, _span(row))
    return tag(
        "g",
        tag("text", row.label, x=0.0, y=y + 4, class_="label"),
        tag("line", x1=low, x2=high, y1=y, y2=y, class_="whisker"),
        *(tag("line", x1=x, x2=x, y1=y - 4, y2=y + 4, class_="whisker") for x in (low, high)),
        tag("circle", cx=value, cy=y, r=4.5, class_="dot"),
        tag("text", row.text, x=_WIDTH, y=y + 4, class_="number", text_anchor="end"),
        class_=row.tone or None,
    )


def _span(row: Interval) -> tuple[float, float]:
    return (row.value, row.value) if row.low is None or row.high is None else (row.low, row.high)


def _line(line: Line, x: _Axis, y: _Axis, number: int) -> Html:
    places = [(x.place(a), y.place(b)) for a, b in line.points]
    path = "M" + " L".join(f"{a:.1f} {b:.1f}" for a, b in places)
    marks = [tag("circle", cx=a, cy=b, r=3.5, class_="dot") for a, b in places] if line.is_marked else []
    return tag("g", tag("path", d=path, class_="curve"), *marks, class_=f"line{number}")


def _legend(line: Line, number: int, x: float) -> Html:
    return tag(
        "g",
        tag("line", x1=x, x2=x + 22, y1=12.0, y2=12.0, class_="curve"),
        tag("text", line.label, x=x + 28, y=16.0, class_="axis"),
        class_=f"line{number}",
    )


def _row_of_dots(label: str, values: Sequence[float], axis: _Axis, y: float) -> Html:
    drawn = [tag("circle", cx=axis.place(v), cy=y, r=5.0, class_="dot faint") for v in values]
    return tag("g", tag("text", label, x=0.0, y=y + 4, class_="label"), *drawn)
