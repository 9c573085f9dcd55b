"""Somebody who looks at a server while others load it: how long its event loop takes to come round, and its pages."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from dataclasses import dataclass, field

from developers import OK, Connection

_EACH_S = 0.1
_PATIENCE_S = 10.0
LOOP, PAGE = "/healthz", "/console"
"""The first does nothing, so its time is the event loop's delay, the way there and back included."""


@dataclass(slots=True)
class Seen:
    ms: dict[str, list[float]] = field(default_factory=lambda: {LOOP: [], PAGE: []})
    failed: Counter[str] = field(default_factory=Counter[str])
    """By path: another status, a broken connection, or nothing within ten seconds, which counts as that in `ms`."""


async def look(address: str, seen: Seen, token: str = "") -> None:
    """Both, in turn, for ever, until it is cancelled."""
    connection = Connection(address, token)
    try:
        while True:
            for path in (LOOP, PAGE):
                await asyncio.sleep(_EACH_S)
                await _look_at(path, connection, seen)
    finally:
        connection.close()


async def _look_at(path: str, connection: Connection, seen: Seen) -> None:
    started = time.perf_counter()
    try:
        async with asyncio.timeout(_PATIENCE_S):
            seen.failed[path] += (await connection.get(path)).status != OK
    except (TimeoutError, OSError, asyncio.IncompleteReadError):
        seen.failed[path] += 1
    seen.ms[path].append((time.perf_counter() - started) * 1e3)
