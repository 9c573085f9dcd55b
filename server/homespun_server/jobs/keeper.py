"""What the server does for the queue by itself, again and again."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence

from prometheus_client import Gauge
from sqlalchemy import Engine

from homespun_core.config import Settings
from homespun_core.notify import NotifyConfig
from homespun_core.paths import DataDir
from homespun_server.jobs.notices.following import Follower
from homespun_server.jobs.notices.sending import Sender
from homespun_server.jobs.store import JobStore

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


def counting(store: JobStore, gauge: Gauge) -> Callable[[], None]:
    """Keeps the numbers of jobs, those that are none any more included."""
    shown: set[tuple[str, str]] = set()

    def count() -> None:
        counts = store.counts()
        for labels in shown | counts.keys():
            gauge.labels(*labels).set(counts.get(labels, 0))
        shown.update(counts)

    return count


def noticing(
    settings: Settings,
    database: Engine,
    store: JobStore,
    endpoints: Sequence[NotifyConfig],
    problems: Callable[[], Sequence[str]],
) -> list[Keeper]:
    """Nothing where nobody wants to hear of anything. It may wait for others' servers, so it keeps nothing else up."""
    if not endpoints:
        return []
    follower = Follower(DataDir(settings.data_root), database, store, endpoints, problems)
    return [Keeper([follower.look, Sender(store, endpoints).send_due])]
