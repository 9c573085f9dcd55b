"""What is told of refused tokens: a number for Prometheus, and of a burst an entry in the audit log."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from homespun_server.access import audit
from homespun_server.access.audit import Actor
from homespun_server.access.failures import Failed
from homespun_server.access.limits import Limiter

logger = logging.getLogger(__name__)

_ENTRIES_PER_MINUTE = 10
"""Of all addresses together: nobody fills the log by knocking."""


class Noting:
    def __init__(self, engine: Engine, count: Callable[[], None]) -> None:
        self._engine, self._count = engine, count
        self._limit = Limiter(_ENTRIES_PER_MINUTE)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="noting")

    def failed(self, address: str, found: Failed) -> None:
        """Returns at once; what waits for the database does so in a thread."""
        self._count()
        if found.burst is None:
            return
        logger.warning("%d tokens from %s were nobody's", found.burst, address)
        taken = self._limit.take("all", time.monotonic())
        if taken is not None and taken.is_allowed:
            self._thread.submit(self._note, address, found.burst)

    def _note(self, address: str, number: int) -> None:
        try:
            with self._engine.begin() as connection:
                by, told = Actor(id="nobody", origin=address), {"failures": number}
                audit.append(connection, by, "token.refused", "address", decision="denied", details=told)
        except SQLAlchemyError as error:
            logger.warning("refused tokens can't be noted: the database fails (%s)", type(error).__name__)
