"""Progress as bars, on a terminal."""

from __future__ import annotations

import atexit
import sys

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as Bars

from homespun_core.progress import JsonProgress, PlainProgress
from homespun_core.types import Progress


def progress_for_terminal(kind: str = "auto") -> Progress:
    """Bars where somebody watches, plain lines in pipes, logs and CI; `json` wherever it is asked for."""
    if kind == "json":
        return JsonProgress()
    return RichProgress() if sys.stderr.isatty() else PlainProgress()


class RichProgress:
    """One bar at a time; finished steps stay as a line with the time they took."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(stderr=True)
        self._bars: Bars | None = None
        self._task = TaskID(0)
        self._label = ""
        atexit.register(self._close)  # an error or Ctrl-C in the middle of a step must not leave the cursor hidden

    def start(self, label: str, total: int | None = None, unit: str = "", done: int = 0) -> None:
        self._close()
        self._label = label
        counted = (BarColumn(), MofNCompleteColumn(), TextColumn(unit), TimeRemainingColumn()) if total else ()
        self._bars = Bars(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            *counted,
            TimeElapsedColumn(),
            TextColumn("{task.fields[note]}"),
            console=self._console,
            transient=True,
        )
        self._task = self._bars.add_task(label, total=total, completed=done, note="")
        self._bars.start()

    def advance(self, done: int, note: str = "") -> None:
        if self._bars is not None:
            self._bars.update(self._task, completed=done, note=note)

    def finish(self, note: str = "") -> None:
        took = self._bars.tasks[0].elapsed or 0.0 if self._bars is not None else 0.0
        self._close()
        self._console.print(f"{self._label}: {note + ', ' if note else ''}{took:.1f} s", highlight=False, markup=False)

    def _close(self) -> None:
        if self._bars is not None:
            self._bars.stop()
            self._bars = None
