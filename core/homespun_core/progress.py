"""Progress as plain lines for logs, pipes and CI, or as JSON for programs. On a terminal there are bars instead. Work
that says how far it is can be ended there, too."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from typing import Any, TextIO

from homespun_core.types import Progress

_EVERY_S = 5.0
_JSON_EVERY_S = 1.0


class Checked:
    """Passes on how far work is, unless `check` raises: that ends the work."""

    def __init__(self, progress: Progress, check: Callable[[], None]) -> None:
        self._progress, self._check = progress, check

    def start(self, label: str, total: int | None = None, unit: str = "", done: int = 0) -> None:
        self._progress.start(label, total, unit, done)

    def advance(self, done: int, note: str = "") -> None:
        self._check()
        self._progress.advance(done, note)

    def finish(self, note: str = "") -> None:
        self._progress.finish(note)


class PlainProgress:
    """A line when a step starts, one every few seconds, and one when it ends with the time it took."""

    def __init__(self, stream: TextIO | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream or sys.stderr
        self._clock = clock
        self._label = ""
        self._total: int | None = None
        self._unit = ""
        self._started = self._shown = 0.0
        self._begun = 0

    def start(self, label: str, total: int | None = None, unit: str = "", done: int = 0) -> None:
        self._label, self._total, self._unit, self._begun = label, total, unit, done
        self._started = self._shown = self._clock()
        self._say(f"{label} ...")

    def advance(self, done: int, note: str = "") -> None:
        now = self._clock()
        if now - self._shown < _EVERY_S:
            return
        self._shown = now
        self._say(f"{self._label}: {self._amount(done)}{self._left(done, now)}{' ' + note if note else ''}")

    def finish(self, note: str = "") -> None:
        took = self._clock() - self._started
        self._say(f"{self._label}: {note + ', ' if note else ''}{took:.1f} s")

    def _amount(self, done: int) -> str:
        unit = f" {self._unit}" if self._unit else ""
        return f"{done:,} of {self._total:,}{unit}" if self._total else f"{done:,}{unit}"

    def _left(self, done: int, now: float) -> str:
        left = _left(done, self._begun, self._total, now - self._started)
        return "" if left is None else f", about {left:.0f} s left"

    def _say(self, line: str) -> None:
        print(line, file=self._stream, flush=True)


class JsonProgress:
    """A line when a step starts, at most one a second, and one when it ends: {"step", "done", "total", "unit", "note"},
    with "eta_s" in between and "took_s" at the end."""

    def __init__(self, stream: TextIO | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream or sys.stderr
        self._clock = clock
        self._step: dict[str, Any] = {}
        self._started = self._said = 0.0
        self._begun = 0

    def start(self, label: str, total: int | None = None, unit: str = "", done: int = 0) -> None:
        self._step, self._begun = {"step": label, "total": total, "unit": unit}, done
        self._started = self._said = self._clock()
        self._say(done=done, note="")

    def advance(self, done: int, note: str = "") -> None:
        now = self._clock()
        if now - self._said < _JSON_EVERY_S:
            return
        self._said = now
        eta_s = _left(done, self._begun, self._step["total"], now - self._started)
        self._say(done=done, note=note, eta_s=eta_s)

    def finish(self, note: str = "") -> None:
        self._say(done=self._step["total"], note=note, took_s=self._clock() - self._started)

    def _say(self, **more: Any) -> None:
        print(json.dumps(self._step | more), file=self._stream, flush=True)


def _left(done: int, begun: int, total: int | None, took_s: float) -> float | None:
    """Seconds, at the pace of this run; None while there is nothing to tell by."""
    return took_s * max(0, total - done) / (done - begun) if total and done > begun else None
