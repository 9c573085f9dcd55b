"""One request on its way through the pool: what is known of it, and the stream its caller reads."""

from __future__ import annotations

import asyncio
import queue
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from homespun_core.errors import HomespunError
from homespun_server.engine.protocol import EngineRequest, EngineStats, FinishReason, Token
from homespun_server.engine.vllm.wire import Chunk

Event = list[Token] | HomespunError | None
"""What a job tells its caller: tokens any number of times, then once its failure or None, the end."""


@dataclass(eq=False, slots=True)
class Job:
    request: EngineRequest
    adapter: str | None
    """Its name on the servers."""
    tell: Callable[[Event], None]
    queued_at: float = field(default_factory=time.monotonic)
    begun_at: float | None = None
    """At a server, which is computing the prompt."""
    first_at: float | None = None
    ended_at: float | None = None
    chunk: Chunk = field(default_factory=Chunk)
    """The counts of the servers; its tokens aren't kept."""
    num_tokens: int = 0
    num_chunks: int = 0
    finish: FinishReason = "cancelled"
    task: asyncio.Task[None] | None = None

    @property
    def is_ended(self) -> bool:
        return self.ended_at is not None

    def take(self, chunk: Chunk) -> bool:
        """Tell the caller what it brings; True when the completion ended with it."""
        request = self.request
        if chunk.tokens and self.first_at is None:
            self.first_at = time.monotonic()
        if not chunk.tokens and chunk.finish is None:
            self.chunk = chunk
        tokens = [] if request.max_new_tokens == 0 else [t for t in chunk.tokens if t.id not in request.end_ids]
        self.num_tokens += len(tokens)
        self.num_chunks += bool(chunk.tokens)
        if tokens:
            self.tell(tokens)
        if chunk.finish is not None and not self.is_ended:
            self.finish = "stop" if chunk.finish == "stop" else "length"
        return chunk.finish is not None

    def end(self, finish: FinishReason | None = None) -> None:
        """The first call counts."""
        if self.ended_at is None:
            self.ended_at = time.monotonic()
            self.finish = finish or self.finish

    @property
    def served_ms(self) -> float:
        return ((self.ended_at or 0.0) - (self.begun_at or 0.0)) * 1e3

    def stats(self) -> EngineStats:
        now = self.ended_at or time.monotonic()
        begun = self.begun_at or now
        first = self.first_at or now
        return EngineStats(
            prompt_tokens=len(self.request.ids),
            cached_tokens=self.chunk.cached_tokens,
            completion_tokens=self.num_tokens,
            num_steps=self.chunk.num_steps or self.num_chunks,
            drafted_tokens=self.chunk.drafted_tokens,
            accepted_tokens=self.chunk.accepted_tokens,
            queue_ms=(begun - self.queued_at) * 1e3,
            prefill_ms=max(first - begun, 0.0) * 1e3,
            decode_ms=max(now - first, 0.0) * 1e3,
            finish_reason=self.finish,
        )


class VllmStream:
    """See `protocol.TokenStream`."""

    def __init__(self, job: Job, events: asyncio.Queue[Event], cancel: Callable[[], None]) -> None:
        self._job, self._events, self._cancel = job, events, cancel
        self._tokens: list[Token] = []
        self._has_ended = False

    def __aiter__(self) -> VllmStream:
        return self

    async def __anext__(self) -> Token:
        while not self._tokens:
            if self._has_ended:
                raise StopAsyncIteration
            event = await self._events.get()
            if isinstance(event, list):
                self._tokens = event[::-1]
                continue
            self._has_ended = True
            if event is not None:
                raise event
        return self._tokens.pop()

    async def aclose(self) -> None:
        self._has_ended = True
        self._tokens.clear()
        self._cancel()

    @property
    def stats(self) -> EngineStats:
        return self._job.stats()


def until_end(events: queue.SimpleQueue[Event]) -> Iterator[Token]:
    while (event := events.get()) is not None:
        if isinstance(event, HomespunError):
            raise event
        yield from event
