"""How a training did while it ran: the loss of its examples and of files it was held against."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from homespun_core import storage
from homespun_core.paths import DataDir
from homespun_server.console.charts import Chart, Series, line_chart
from homespun_server.jobs.states import Job

_STATE = "state.json"


def of_report(training: Mapping[str, Any]) -> Chart | None:
    """Of a training that has ended, from `training` in its adapter's report."""
    try:
        points = [(float(p["seconds"]), float(p["loss"])) for p in training.get("loss", ())]
        per_step = float(training.get("seconds", 0)) / max(1, int(training.get("steps", 0)))
        held_out = [(int(p["step"]) * per_step, float(p["loss"])) for p in training.get("held_out_loss", ())]
    except (KeyError, TypeError, ValueError):
        return None
    return chart(points, held_out)


@dataclass(frozen=True, slots=True)
class Run:
    """Points are (seconds, loss)."""

    points: Sequence[tuple[float, float]]
    held_out: Sequence[tuple[float, float]]


def running(data: DataDir, job: Job) -> Run | None:
    """Of one that goes on, from its last checkpoint; None before the first, and where the run is on another machine."""
    is_training = job.kind == "train" and job.state == "running"
    path = storage.current(data.training_run(job.repository)) if is_training else None
    if path is None:
        return None
    try:
        state = json.loads((path / _STATE).read_text(encoding="utf-8"))
        points = [(float(seconds), float(loss)) for _, seconds, loss in state["losses"]]
        per_step = float(state["elapsed_s"]) / max(1, int(state["step"]))
        held_out = [(int(step) * per_step, float(loss)) for step, loss in state["dev_losses"]]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return Run(points, held_out)


def chart(points: Sequence[tuple[float, float]], held_out: Sequence[tuple[float, float]]) -> Chart | None:
    """A look at held-out files stands at the point that is nearest in time."""
    if len(points) < 2:
        return None
    beside: dict[int, float] = {}
    for seconds, loss in held_out:
        nearest = min(range(len(points)), key=lambda n: abs(points[n][0] - seconds))
        beside[nearest] = loss
    series = [
        Series(label="training examples", values=[loss for _, loss in points]),
        Series(label="held-out files", values=_bridged(beside, len(points))),
    ]
    return line_chart("Loss during training", "second", [f"{s:.0f}" for s, _ in points], series, lambda v: f"{v:.2f}")


def _bridged(known: Mapping[int, float], length: int) -> list[float | None]:
    """What lies between two looks is on the line between them."""
    places = sorted(known)
    values: list[float | None] = [None] * length
    for start, end in pairwise(places):
        for n in range(start, end):
            values[n] = known[start] + (known[end] - known[start]) * (n - start) / (end - start)
    if places:
        values[places[-1]] = known[places[-1]]
    return values
