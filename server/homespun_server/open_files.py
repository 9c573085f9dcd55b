"""How many files this process may have open, and how many of them connections may be.

A connection is an open file, and so is each segment of an index. Without a limit of their own, connections took what
there was: nothing could be opened any more, and asyncio (3.11) logged 2,048 tracebacks a second.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import resource
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

logger = logging.getLogger(__name__)

_MOST = 65_536
"""Some systems allow a billion, which programs that close every number there could be take minutes for."""
_FEWEST_CONNECTIONS = 8
_EVERY_S = 60.0


def raise_limit() -> None:
    """As far as this process may by itself: shells begin with 1,024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _capped(hard)
    if _capped(soft) < wanted:
        with suppress(OSError, ValueError):  # macOS calls its limit infinite, and refuses more than another one
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def max_connections() -> int:
    """Half of all files: the others are for indexes, adapters and the database."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return max(_FEWEST_CONNECTIONS, _capped(soft) // 2)


def _capped(limit: int) -> int:
    return _MOST if limit == resource.RLIM_INFINITY else min(limit, _MOST)


class Seldom:
    """Says at once that something happens, and then once a minute how often it has."""

    def __init__(self, say: Callable[[int], None], clock: Callable[[], float] = time.monotonic) -> None:
        self._say, self._clock = say, clock
        self._count, self._next = 0, 0.0

    def __call__(self) -> None:
        self._count += 1
        if (now := self._clock()) >= self._next:
            self._say(self._count)
            self._count, self._next = 0, now + _EVERY_S


def _say_crowded(count: int) -> None:
    logger.warning(
        "connections refused: %d, as %d are open; raise the limit of open files (ulimit -n, LimitNOFILE=)",
        count,
        max_connections(),
    )


def _say_none_left(_: int) -> None:
    logger.error("connections wait, as no more files can be opened; raise the limit (ulimit -n, LimitNOFILE=)")


refused = Seldom(_say_crowded)
_not_accepted = Seldom(_say_none_left)


def on_loop_error(loop: asyncio.AbstractEventLoop, context: Mapping[str, Any]) -> None:
    """An event loop's exception handler: asyncio tries again to accept in a second, so that a line is all it takes."""
    error = context.get("exception")
    if isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE):
        _not_accepted()
    else:
        loop.default_exception_handler(dict(context))
