"""All choices of a call, computed beside one another, in parts as they come."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

from homespun_core.types import Completion, Part
from homespun_server.dialects.calls import Sample
from homespun_server.engine.protocol import EngineBusyError
from homespun_server.services import Completer

logger = logging.getLogger(__name__)

BESIDE = 2
"""So many of one request are computed at a time at most: its prompts mustn't fill the queue for everybody."""

News = tuple[Sequence[int], Part | Completion | Exception]
"""Of which choices; an exception ends them."""


async def together(
    completer: Completer, samples: Sequence[Sample], request_id: str, beside: int
) -> AsyncGenerator[News]:
    """Each sample's parts, then its completion or why there is none, so many beside one another. Closing it cancels the
    work."""
    news: asyncio.Queue[News] = asyncio.Queue()
    turns = asyncio.Semaphore(beside)

    async def follow(number: int, sample: Sample) -> None:
        id = f"{request_id}-{number}" if number else request_id
        try:
            async with turns, aclosing(completer.stream(sample.request, id)) as parts:
                async for part in parts:
                    news.put_nowait((sample.choices, part))
        except EngineBusyError as error:
            news.put_nowait((sample.choices, error))
        except Exception as error:  # a bug: whoever reads mustn't wait for ever
            logger.exception("a completion failed")
            news.put_nowait((sample.choices, error))

    tasks = [asyncio.ensure_future(follow(number, sample)) for number, sample in enumerate(samples)]
    try:
        num_open = len(tasks)
        while num_open:
            choices, part = await news.get()
            num_open -= not isinstance(part, Part)
            yield choices, part
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
