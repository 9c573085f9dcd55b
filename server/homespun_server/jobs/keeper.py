"""What the server does for the queue by itself, again and again."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence

logger = logging.getLogger(__name__)

_EVERY_S = 5.0


class Keeper:
    def __init__(self, duties: Sequence[Callable[[], None]], every_s: float = _EVERY_S) -> None:
        self._duties, self._every_s = duties, every_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._go_on, name="jobs", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def _go_on(self) -> None:
        while not self._stop.wait(self._every_s):
            for duty in self._duties:
                try:
                    duty()
                except Exception as error:  # a job loop: the database may be away, and must not end it
                    logger.warning("%s: %s", duty.__qualname__, type(error).__name__)
                    logger.debug("%s", duty.__qualname__, exc_info=True)
