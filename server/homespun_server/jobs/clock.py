"""The queue's time: near the epoch's, and deaf to somebody who sets the machine's clock while leases run."""

from __future__ import annotations

import time

from sqlalchemy import Connection, Float, cast, func, select


class QueueClock:
    """PostgreSQL's clock, one for all servers. SQLite has one server, so its monotonic clock does: what is set wrong or
    right meanwhile moves nothing, and after a restart leases are renewed anyway."""

    def __init__(self) -> None:
        self._offset = time.time() - time.monotonic()

    def now(self, connection: Connection) -> float:
        if connection.dialect.name == "postgresql":
            asked = select(cast(func.extract("epoch", func.clock_timestamp()), Float))
            return float(connection.execute(asked).scalar_one())
        return time.monotonic() + self._offset
