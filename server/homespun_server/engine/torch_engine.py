"""The embedded engine: a thread that owns the model, a bounded queue before it, a copy of the weights per adapter."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import logging
import math
import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch

from homespun_core.errors import HomespunError, ModelError, ServiceError
from homespun_server.engine.adapters import load_merged
from homespun_server.engine.decode import Decoding, Run, score
from homespun_server.engine.model import Decoder, load_module, new_pool, open_source
from homespun_server.engine.protocol import EngineBusyError, EngineRequest, EngineStats, Generation, Token

logger = logging.getLogger(__name__)

_NUM_SLOTS = 4

_Event = list[Token] | HomespunError | None
"""What a job tells its caller: tokens any number of times, then once its failure or None, the end."""
_Tell = Callable[[_Event], None]


class _Job:
    """Work for the engine's thread."""

    def __init__(self, deadline: float, work: Callable[[_Job], None], tell: _Tell) -> None:
        self.deadline, self.work, self.tell = deadline, work, tell
        self.is_cancelled = False


class TorchEngine:
    """See `protocol.Engine`.

    The order is earliest deadline first. With equal allowances that is first come, first served, and since an editor
    cancels its old request before it sends the next, at most one per editor waits: round robin. Newest first would let
    one fast typist starve everybody else.
    """

    def __init__(
        self, path: Path, *, dtype: str = "auto", device: str = "auto", num_threads: int = 0, max_queue: int = 8
    ) -> None:
        """Loads the model; takes seconds. Raises ModelError."""
        if num_threads:
            torch.set_num_threads(num_threads)
        self._source = open_source(path, dtype, device)
        self._base = self._source.decoder(load_module(path, self._source.dtype))
        self._base.check()
        self._pool = new_pool(self._base.facts, _NUM_SLOTS)
        self._adapters: dict[str, tuple[Path, Decoder]] = {}
        self._max_queue = max_queue
        self._waiting: list[tuple[float, int, _Job]] = []
        self._order = itertools.count()
        self._lock = threading.Condition()
        self._is_closed = False
        self._thread = threading.Thread(target=self._work, name="engine", daemon=True)
        self._thread.start()

    @property
    def max_context(self) -> int:
        return self._base.facts.max_context

    @property
    def dtype(self) -> str:
        return str(self._source.dtype).removeprefix("torch.")

    @property
    def device(self) -> str:
        return self._source.device.type

    @property
    def num_waiting(self) -> int:
        return len(self._waiting)

    @property
    def adapters(self) -> frozenset[str]:
        return frozenset(self._adapters)

    def submit(self, request: EngineRequest) -> EngineStream:
        loop, events = asyncio.get_running_loop(), asyncio.Queue[_Event]()

        def tell(event: _Event) -> None:
            try:
                loop.call_soon_threadsafe(events.put_nowait, event)
            except RuntimeError:
                job.is_cancelled = True  # the loop is gone, and with it whoever waits

        job, run = self._request_job(request, tell)
        self._enqueue(job)
        return EngineStream(job, run, events)

    def generate(self, request: EngineRequest) -> Generation:
        events: queue.SimpleQueue[_Event] = queue.SimpleQueue()
        job, run = self._request_job(request, events.put)
        self._enqueue(job)
        tokens = tuple(token for part in _until_end(events) for token in part)
        return Generation(tokens, run.stats())

    def score(self, ids: Sequence[int], start: int, adapter: str | None = None) -> list[float]:
        self._check_length(len(ids))
        events: queue.SimpleQueue[_Event] = queue.SimpleQueue()
        model, scores = self._weights(adapter), list[float]()
        self._enqueue(_Job(math.inf, lambda job: scores.extend(score(model, ids, start, self._pool)), events.put))
        assert not [*_until_end(events)]
        return scores

    def load_adapter(self, version: str, path: Path) -> None:
        known = self._adapters.get(version)
        if known is not None and known[0] != path:
            raise ModelError(f"adapter {version!r} is loaded from {known[0]}; unload it before loading {path}")
        if known is None:
            self._adapters[version] = (path, load_merged(self._source, path))

    def unload_adapter(self, version: str) -> None:
        known, pool = self._adapters.pop(version, None), self._pool
        if known is not None and pool is not None:
            weights = known[1]
            self._enqueue(_Job(time.monotonic(), lambda job: pool.drop(weights), lambda event: None), is_internal=True)

    def close(self) -> None:
        """Waits for the current step; what is queued or running ends as cancelled."""
        with self._lock:
            self._is_closed = True
            self._lock.notify()
        self._thread.join()

    def _request_job(self, request: EngineRequest, tell: _Tell) -> tuple[_Job, Run]:
        assert request.ids and request.max_new_tokens > 0
        self._check_length(len(request.ids) + request.max_new_tokens)
        model = self._weights(request.adapter)
        run = Run(prompt_tokens=len(request.ids), queued_at=time.monotonic())

        def work(job: _Job) -> None:
            for tokens in Decoding(request, model, self._pool, run).steps():
                if tokens:
                    job.tell(tokens)
                if job.is_cancelled or self._is_closed:
                    break
            run.ended_at = time.monotonic()

        return _Job(request.deadline, work, tell), run

    def _weights(self, adapter: str | None) -> Decoder:
        """Settled when a request is queued, so that a swap in between changes nothing for it."""
        if adapter is None:
            return self._base
        known = self._adapters.get(adapter)
        if known is None:
            raise ModelError(f"adapter {adapter!r} is not loaded")
        return known[1]

    def _check_length(self, length: int) -> None:
        if length > self.max_context:
            raise ModelError(f"{length} tokens don't fit the model's context of {self.max_context}; shorten the prompt")

    def _enqueue(self, job: _Job, *, is_internal: bool = False) -> None:
        with self._lock:
            if self._is_closed:
                raise ServiceError("the engine is shut down")
            if not is_internal:
                self._forget_cancelled()
                if len(self._waiting) >= self._max_queue:
                    raise EngineBusyError(len(self._waiting))
            heapq.heappush(self._waiting, (job.deadline, next(self._order), job))
            self._lock.notify()

    def _forget_cancelled(self) -> None:
        """An editor that types on leaves cancelled requests behind; they must not fill the queue."""
        kept = [entry for entry in self._waiting if not entry[2].is_cancelled]
        if len(kept) < len(self._waiting):
            heapq.heapify(kept)
            self._waiting = kept

    def _work(self) -> None:
        while (job := self._next_job()) is not None:
            try:
                if not job.is_cancelled:
                    job.work(job)
                job.tell(None)
            except HomespunError as error:
                job.tell(error)
            except Exception as error:
                logger.exception("a completion failed")
                job.tell(ServiceError(f"the engine failed ({type(error).__name__}); see the server's log"))
            del job  # or it would keep an unloaded adapter's weights until the next request
        for _, _, job in self._waiting:
            job.tell(ServiceError("the engine is shut down"))

    def _next_job(self) -> _Job | None:
        with self._lock:
            while not self._waiting and not self._is_closed:
                self._lock.wait()
            return None if self._is_closed else heapq.heappop(self._waiting)[2]


class EngineStream:
    """See `protocol.TokenStream`."""

    def __init__(self, job: _Job, run: Run, events: asyncio.Queue[_Event]) -> None:
        self._job, self._run, self._events = job, run, events
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


def _until_end(events: queue.SimpleQueue[_Event]) -> Iterator[list[Token]]:
    while (event := events.get()) is not None:
        if isinstance(event, HomespunError):
            raise event
        yield event
