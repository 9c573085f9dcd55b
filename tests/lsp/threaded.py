"""The fake server for tests that aren't coroutines: it runs in a thread of its own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from queue import SimpleQueue

from tests.lsp.fake_server import FakeServer, fake_server


@contextmanager
def threaded_fake_server() -> Iterator[FakeServer]:
    """What a test may do from its own thread: set replies, read requests."""
    opened: SimpleQueue[tuple[FakeServer, asyncio.AbstractEventLoop, asyncio.Event]] = SimpleQueue()

    async def serve() -> None:
        end = asyncio.Event()
        async with fake_server() as fake:
            opened.put((fake, asyncio.get_running_loop(), end))
            await end.wait()

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    fake, loop, end = opened.get(timeout=20)
    try:
        yield fake
    finally:
        loop.call_soon_threadsafe(end.set)
        thread.join(20)
