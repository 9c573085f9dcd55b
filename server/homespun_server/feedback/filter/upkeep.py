"""Trains the show/hide filter again once a day: what people keep changes, and what completes for them too."""

from __future__ import annotations

import logging
import subprocess
import time
from collections.abc import Callable

from homespun_core import storage
from homespun_core.children import Children
from homespun_core.config import Settings
from homespun_core.paths import DataDir

logger = logging.getLogger(__name__)

LOOK_S = 3_600.0
_EVERY_S = 86_400.0
_APART_S = 3_600.0
"""Clocks that are right differ by less; what is said to have been later was said by one that was ahead."""


class Upkeep:
    """Each training is a `homespun feedback train` of its own, which takes no completion's time and ends with the
    thread that called `look`. What it publishes, and what it says, are as if somebody had run it by hand."""

    def __init__(self, settings: Settings, clock: Callable[[], float] = time.time) -> None:
        data = DataDir(settings.data_root)
        self._filters, self._log = data.filters, data.log("feedback")
        self._children = Children(settings, None)
        self._clock, self._tried = clock, 0.0
        self._process: subprocess.Popen[bytes] | None = None

    def look(self) -> None:
        """Returns at once. Servers that share a data directory take each other's trainings for their own."""
        if self._process is not None and self._process.poll() is None:
            return
        now = self._clock()
        known = [at for at in (self._tried, *self._made()) if at <= now + _APART_S]
        if now - max(known, default=0.0) < _EVERY_S:
            return
        self._tried = now  # where there is too little to learn from, nothing is published
        logger.info("the show/hide filter is trained again; %s says what became of it", self._log)
        self._process = self._children.start("feedback", ["train"], [], self._log)

    def _made(self) -> list[float]:
        """When filters were trained, approved or not."""
        if not self._filters.is_dir():
            return []
        made = [*storage.others(self._filters), storage.current(self._filters)]
        return [path.stat().st_mtime for path in made if path]
