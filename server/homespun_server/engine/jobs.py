"""What the engine's thread works on, and how those who asked hear of it."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from homespun_core.errors import HomespunError
from homespun_server.engine.decode import Decoding, Run
from homespun_server.engine.kv import Slot
from homespun_server.engine.protocol import EngineRequest, EngineStats, FinishReason, Token
from homespun_server.engine.scheduler import RANKS
from homespun_server.engine.shelf import Adapter

Event = list[Token] | HomespunError | None
"""What a job tells its caller: tokens any number of times, then once its failure or None, the end."""
Tell = Callable[[Event], None]

_SCORING = object()


@dataclass(slots=True, eq=False)
class Job:
    """A request, or a score if it has `scoring`. Its flags may be set by any thread, all else by the engine's only."""

    request: EngineRequest
    adapter: Adapter
    tell: Tell
    run: Run
    order: int
    ids: list[int]
    scoring: tuple[int, list[float]] | None = None
    """Where the score starts, and where it is written."""
    steps: Iterator[None] | None = None
    """Of the score."""
    is_cancelled: bool = False
    is_superseded: bool = False
    is_running: bool = False
    served_before: float = float("-inf")
    last_turn: int = 0
    engine_ms: float = 0.0
    """The engine's time it took, its part of that of shared steps."""
    slot: Slot | None = None
    decoding: Decoding | None = None

    @property
    def rank(self) -> int:
        return RANKS[self.request.priority]

    @property
    def deadline(self) -> float:
        return self.request.deadline

    @property
    def queued_at(self) -> float:
        return self.run.queued_at

    @property
    def weights(self) -> object:
        return _SCORING if self.is_alone else self.adapter.decoder

    @property
    def is_alone(self) -> bool:
        return self.scoring is not None

    @property
    def num_pending(self) -> int:
        return self.decoding.num_pending if self.decoding is not None else 1

    @property
    def client(self) -> tuple[str, str] | None:
        """Two tenants' clients are never the same one."""
        return (self.request.tenant, self.request.client) if self.request.client is not None else None

    @property
    def whose_turn(self) -> tuple[str, str]:
        """One user's turns count in all their editors and repositories."""
        request = self.request
        return ("", request.user) if request.user else (request.tenant, request.client or "")

    @property
    def is_unwanted(self) -> bool:
        return self.is_cancelled or self.is_superseded

    def why_over(self, now: float, prefill_ms: Callable[[int], float]) -> FinishReason | None:
        """Whether it ends without being done. prefill_ms: the least that computing so many prompt tokens takes."""
        if self.is_cancelled:
            return "cancelled"
        if self.is_superseded:
            return "superseded"
        num_left = self.num_pending
        needed_ms = prefill_ms(num_left) if num_left > 1 and self.request.max_new_tokens > 0 else 0.0
        return "deadline" if now + needed_ms / 1e3 >= self.deadline else None


class Relay:
    """Carries events into an event loop, which is woken once for all that came meanwhile."""

    def __init__(self) -> None:
        self.events = asyncio.Queue[Event]()
        self.job: Job | None = None
        """Cancelled when the loop is gone, and with it whoever waits."""
        self._loop = asyncio.get_running_loop()
        self._arrived = deque[Event]()
        self._is_woken = False

    def tell(self, event: Event) -> None:
        self._arrived.append(event)
        if self._is_woken and not self._loop.is_closed():
            return
        self._is_woken = True
        try:
            self._loop.call_soon_threadsafe(self._pass_on)
        except RuntimeError:
            if self.job is not None:
                self.job.is_cancelled = True

    def _pass_on(self) -> None:
        self._is_woken = False  # first, or what comes now would wake nobody
        while self._arrived:
            self.events.put_nowait(self._arrived.popleft())


class Collector:
    """Waits for the end. Waking for every token would make two threads fight for the interpreter at every step."""

    def __init__(self) -> None:
        self._tokens = list[Token]()
        self._error: HomespunError | None = None
        self._has_ended = threading.Event()

    def tell(self, event: Event) -> None:
        if isinstance(event, list):
            self._tokens += event
        else:
            self._error = event
            self._has_ended.set()

    def wait(self) -> tuple[Token, ...]:
        self._has_ended.wait()
        if self._error is not None:
            raise self._error
        return tuple(self._tokens)


class EngineStream:
    """See `protocol.TokenStream`."""

    def __init__(self, job: Job, relay: Relay) -> None:
        relay.job = job
        self._job, self._run, self._events = job, job.run, relay.events
        self._tokens: list[Token] = []
        self._has_ended = False

    def __aiter__(self) -> EngineStream:
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
        self._job.is_cancelled = self._has_ended = True
        self._tokens.clear()
        self._run.ended_at = self._run.ended_at or time.monotonic()

    @property
    def stats(self) -> EngineStats:
        return self._run.stats()
