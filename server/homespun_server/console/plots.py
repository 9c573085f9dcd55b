"""The charts of what became of completions. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from homespun_server.console import words
from homespun_server.console.charts import Chart, Series, line_chart
from homespun_server.console.usage import percentile
from homespun_server.feedback.summary import Summary
from homespun_server.feedback.sums import DAY_S


@dataclass(frozen=True, slots=True)
class Day:
    number: int
    """Since 1970, UTC."""
    summary: Summary | None
    latencies: Counter[int] | None

    @property
    def label(self) -> str:
        return datetime.fromtimestamp(self.number * DAY_S, UTC).strftime("%m-%d")


def acceptance(days: Sequence[Day]) -> Chart:
    shares = [day.summary.acceptance if day.summary and day.summary.shown else None for day in days]
    return _chart("Accepted, of those shown", days, [Series(label="accepted", values=shares)], words.percent)


def counts(days: Sequence[Day]) -> Chart:
    series = [
        Series(label="shown", values=[float(day.summary.shown) if day.summary else 0.0 for day in days]),
        Series(label="accepted", values=[float(day.summary.accepted) if day.summary else 0.0 for day in days]),
    ]
    return _chart("Completions", days, series, words.count)


def kept(days: Sequence[Day]) -> Chart:
    values = [float(day.summary.kept_characters) if day.summary else 0.0 for day in days]
    return _chart("Characters kept", days, [Series(label="kept", values=values)], words.count)


def latency(days: Sequence[Day]) -> Chart:
    series = [
        Series(label=label, values=[percentile(day.latencies, share) if day.latencies else None for day in days])
        for label, share in (("median", 0.5), ("95th percentile", 0.95))
    ]
    return _chart("Time of a completion on the server", days, series, words.milliseconds)


def _chart(title: str, days: Sequence[Day], series: Sequence[Series], spell: Callable[[float], str]) -> Chart:
    return line_chart(title, "day", [day.label for day in days], series, spell)
