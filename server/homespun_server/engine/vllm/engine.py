"""The engine as a pool of vLLM servers: the same protocol over HTTP, for models that need a GPU.

The servers run elsewhere and must be reachable from here only: vLLM knows one token and no tenants. They see adapters
under the same path as we do.
"""

from __future__ import annotations

import asyncio
import logging
import math
import queue
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from concurrent.futures import CancelledError
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from homespun_core.errors import ConfigError, HomespunError, ModelError, ServiceError
from homespun_server.engine.protocol import (
    EngineBusyError,
    EngineLoad,
    EngineRequest,
    FinishReason,
    Generation,
)
from homespun_server.engine.vllm.adapters import check_lora, served_name
from homespun_server.engine.vllm.pool import Place, Visit, VllmPool
from homespun_server.engine.vllm.server import VllmServer
from homespun_server.engine.vllm.stream import Event, Job, VllmStream, until_end
from homespun_server.engine.vllm.wire import CONCURRENCY, RANKS, VllmError, checked_url, completion_body

logger = logging.getLogger(__name__)

_TRIES = 3
"""Servers that a request is given to at most; a request that breaks servers must not break all of them."""
_PREFIX = 64
"""Ids at the start of a prompt that stand for its client where none is named: enough to tell files apart."""
_FORGET = 0.9
T = TypeVar("T")


@dataclass(eq=False, slots=True)
class _Loaded:
    path: Path
    name: str
    """On the servers."""
    num_users: int = 0
    is_retired: bool = False


class VllmEngine:
    """See `protocol.Engine`. A request's draft isn't used: vLLM drafts by itself if it is told to when started.

    Start the servers with --enable-lora, VLLM_ALLOW_RUNTIME_LORA_UPDATING=True, --api-key, and an --max-num-seqs not
    below `concurrency`, so that they never have a queue: waiting is done here, where who typed on is forgotten. vLLM's
    CPU backend is for tests only: in a batch it gives requests without an adapter the one in the last slot
    (https://github.com/vllm-project/vllm/pull/49656, open in 0.32).
    """

    def __init__(
        self,
        urls: Sequence[str],
        *,
        token: str = "",
        max_queue: int = 8,
        concurrency: int = CONCURRENCY,
        base: Path | None = None,
        dtype: str = "auto",
        patience_s: float = 120.0,
        check_s: float = 2.0,
        silence_s: float = 3.0,
        stall_s: float = 30.0,
    ) -> None:
        """Waits up to `patience_s` for one server. Raises ConfigError for addresses, ServiceError when none is ready.

        base: the base model's directory, if it is here; adapters are compared with it before a server sees them.
        concurrency: requests that a server computes together.
        silence_s: an attempt that ended without a token after so long counts against its server.
        stall_s: a completion without a deadline that is silent for so long has failed.
        """
        servers = dict.fromkeys(map(checked_url, urls))
        if not servers:
            raise ConfigError("vllm_urls: names no server")
        self._token, self._base, self._dtype = token, base, dtype
        self._max_queue, self._concurrency = max_queue, concurrency
        self._adapters: dict[str, _Loaded] = {}
        self._jobs: set[Job] = set()
        self._clients: dict[tuple[str, str], Job] = {}
        self._mean_ms = 0.0
        self._tasks: set[asyncio.Task[Any]] = set()
        self._lock, self._loading = threading.Lock(), threading.Lock()
        self._is_closed = False
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="vllm", daemon=True)
        self._thread.start()
        self._pool = self._await(self._open([*servers], check_s, silence_s, stall_s))
        try:
            self._await(self._pool.start(patience_s))
        except ServiceError:
            self.close()
            raise

    @property
    def max_context(self) -> int:
        """The smallest of the servers that were ever ready; one that is down hasn't become larger."""
        return self._pool.max_context

    @property
    def dtype(self) -> str:
        """As configured: vLLM doesn't say."""
        return self._dtype

    @property
    def device(self) -> str:
        return "vllm"

    @property
    def can_constrain(self) -> bool:
        return False

    @property
    def num_waiting(self) -> int:
        return self.load().num_waiting

    @property
    def adapters(self) -> frozenset[str]:
        return frozenset(self._adapters)

    @property
    def num_adapter_loads(self) -> int:
        return 0  # the servers' affair

    def load(self) -> EngineLoad:
        with self._lock:
            served = [job for job in self._jobs if job.request.priority != "warm"]
            num_waiting = sum(job.begun_at is None for job in self._jobs)
            num_running = len(self._jobs) - num_waiting
        rounds = len(served) // max(1, self._room())
        return EngineLoad(num_running=num_running, num_waiting=num_waiting, wait_ms=rounds * self._mean_ms, step_ms=0.0)

    def submit(self, request: EngineRequest) -> VllmStream:
        loop, events = asyncio.get_running_loop(), asyncio.Queue[Event]()

        def tell(event: Event) -> None:
            try:
                loop.call_soon_threadsafe(events.put_nowait, event)
            except RuntimeError:
                self._cancel(job, "cancelled")  # the loop is gone, and with it whoever waits

        job = self._enqueue(request, tell)
        return VllmStream(job, events, partial(self._cancel, job, "cancelled"))

    def generate(self, request: EngineRequest) -> Generation:
        events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        job = self._enqueue(request, events.put)
        return Generation(tuple(until_end(events)), job.stats())

    def score(self, ids: Sequence[int], start: int, adapter: str | None = None) -> list[float]:
        assert 1 <= start <= len(ids)
        self._check_length(len(ids))
        if start == len(ids):
            return []
        with self._lock:
            loaded = self._loaded(adapter)
            if loaded is not None:
                loaded.num_users += 1
        try:
            return self._await(self._score([*ids], loaded.name if loaded else None))[start - 1 :]
        finally:
            self._let_go(loaded)

    def load_adapter(self, version: str, path: Path) -> None:
        path = path.absolute()
        with self._loading:
            known = self._adapters.get(version)
            if known is not None and known.path != path:
                raise ModelError(f"adapter {version!r} is loaded from {known.path}; unload it before loading {path}")
            if known is None:
                check_lora(path, self._base)
                name = served_name(path)
                self._await(self._pool.load(name, path))
                with self._lock:
                    self._adapters[version] = _Loaded(path, name)
                logger.info("adapter %s is %s on the vLLM servers", version, name)

    def unload_adapter(self, version: str) -> None:
        with self._lock:
            loaded = self._adapters.pop(version, None)
            if loaded is None:
                return
            loaded.is_retired = True
            loaded.num_users += 1
        self._let_go(loaded)

    def close(self) -> None:
        """What runs ends as cancelled; what waits fails."""
        with self._lock:
            if self._is_closed:
                return
            self._is_closed = True
        asyncio.run_coroutine_threadsafe(self._shut(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _enqueue(self, request: EngineRequest, tell: Callable[[Event], None]) -> Job:
        assert request.ids and request.max_new_tokens >= 0
        self._check_length(len(request.ids) + request.max_new_tokens)
        key = None if request.client is None else (request.tenant, request.client)
        with self._lock:
            if self._is_closed:
                raise ServiceError("the engine is shut down")
            loaded = self._loaded(request.adapter)
            older = self._clients.get(key) if key else None
            self._check_queue(request, older)
            job = Job(request, loaded.name if loaded else None, tell)
            self._jobs.add(job)
            if loaded is not None:
                loaded.num_users += 1
            if key:
                self._clients[key] = job
        if older is not None:
            self._cancel(older, "superseded")
        self._loop.call_soon_threadsafe(self._begin, job, loaded)
        return job

    def _check_queue(self, request: EngineRequest, older: Job | None) -> None:
        """What only fills the caches has a queue of its own, or it would keep others out. Holding the lock."""
        is_warm = request.priority == "warm"
        num_others = sum((job.request.priority == "warm") is is_warm for job in self._jobs if job is not older)
        if num_others >= self._max_queue + (0 if is_warm else self._room()):
            raise EngineBusyError(max(0, num_others - self._room()))

    def _loaded(self, adapter: str | None) -> _Loaded | None:
        """Settled when a request is queued, so that a swap in between changes nothing for it. Holding the lock."""
        if adapter is None:
            return None
        if adapter not in self._adapters:
            raise ModelError(f"adapter {adapter!r} is not loaded")
        return self._adapters[adapter]

    def _check_length(self, length: int) -> None:
        if length > self.max_context:
            raise ModelError(f"{length} tokens don't fit the model's context of {self.max_context}; shorten the prompt")

    def _room(self) -> int:
        return len(self._pool.ready) * self._concurrency

    def _cancel(self, job: Job, finish: FinishReason) -> None:
        """From any thread, any number of times. Its place in the queue is free at once."""
        with self._lock:
            self._forget(job)
            if not job.is_ended:
                job.end(finish)
                if not self._is_closed:
                    self._loop.call_soon_threadsafe(_cancel_task, job)

    def _forget(self, job: Job) -> None:
        """Holding the lock."""
        self._jobs.discard(job)
        key = (job.request.tenant, job.request.client or "")
        if self._clients.get(key) is job:
            del self._clients[key]

    def _let_go(self, loaded: _Loaded | None) -> None:
        """The last user of a retired adapter unloads it."""
        if loaded is None:
            return
        with self._lock:
            loaded.num_users -= 1
            is_last = loaded.is_retired and loaded.num_users == 0 and not self._is_closed
        if is_last:
            asyncio.run_coroutine_threadsafe(self._tracked(self._pool.unload(loaded.name)), self._loop)

    def _await(self, work: Coroutine[Any, Any, T]) -> T:
        """Blocks the calling thread."""
        if self._is_closed:
            work.close()
            raise ServiceError("the engine is shut down")
        try:
            return asyncio.run_coroutine_threadsafe(self._tracked(work), self._loop).result()
        except CancelledError:
            raise ServiceError("the engine is shut down") from None
        finally:
            work.close()  # it may have been cancelled before it began

    # From here on, everything runs on the loop.

    async def _open(self, urls: Sequence[str], check_s: float, silence_s: float, stall_s: float) -> VllmPool:
        servers = [VllmServer(url, self._token, stall_s) for url in urls]
        return VllmPool(servers, concurrency=self._concurrency, check_s=check_s, silence_s=silence_s)

    async def _tracked(self, work: Coroutine[Any, Any, T]) -> T:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return await work

    async def _shut(self) -> None:
        """Cancels what is ours only: the tasks within httpx end with them, and in order."""
        tasks = [*self._tasks]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._pool.close()

    def _begin(self, job: Job, loaded: _Loaded | None) -> None:
        """A task that is cancelled before it runs never enters its coroutine, so the end is a callback."""
        job.task = self._loop.create_task(self._run(job))
        self._tasks.add(job.task)
        job.task.add_done_callback(self._tasks.discard)
        job.task.add_done_callback(partial(self._end, job, loaded))
        if job.is_ended or self._is_closed:
            job.task.cancel()

    def _end(self, job: Job, loaded: _Loaded | None, task: asyncio.Task[None]) -> None:
        event: Event = None
        if task.cancelled():
            if self._is_closed and not job.is_ended and job.begun_at is None:
                event = ServiceError("the engine is shut down")
        elif (error := task.exception()) is not None:
            event = _told(error)
        job.end()
        with self._lock:
            self._forget(job)
            if event is None and job.first_at is not None:
                self._mean_ms += (1 - _FORGET) * (job.served_ms - self._mean_ms)
        job.tell(event)
        self._let_go(loaded)

    async def _run(self, job: Job) -> None:
        left_s = job.request.deadline - time.monotonic()
        if left_s <= 0:
            return job.end("deadline")
        try:
            async with asyncio.timeout(None if math.isinf(left_s) else left_s):
                await self._visited(_place(job), partial(self._complete, job), lambda: job.first_at is None)
        except TimeoutError:
            job.end("deadline")

    async def _visited(self, place: Place, work: Callable[[Visit], Awaitable[T]], can_repeat: Callable[[], bool]) -> T:
        """The work at a server, at another one if that fails and it can be done again."""
        tried: list[VllmServer] = []
        while True:
            try:
                async with self._pool.visit(place, tried) as visit:
                    tried.append(visit.server)
                    return await work(visit)
            except VllmError as error:
                is_hopeless = error.kind == "busy" and set(tried) >= set(self._pool.ready)
                if is_hopeless or error.kind == "refused" or len(tried) == _TRIES or not can_repeat():
                    raise self._translated(error, tried[-1]) from error

    def _translated(self, error: VllmError, server: VllmServer) -> HomespunError:
        if error.kind == "busy":
            return EngineBusyError(self.load().num_waiting, error.retry_after_s)
        return ServiceError(f"vLLM at {server.url} {error}")

    async def _complete(self, job: Job, visit: Visit) -> None:
        job.begun_at = job.begun_at or visit.begun_at
        server, has_ended = visit.server, False
        body = completion_body(
            job.request,
            model=job.adapter or self._pool.base,
            max_context=self.max_context,
            secret=self._token,
            has_priorities=server.has_priorities,
        )
        async with aclosing(server.complete(body)) as chunks:
            async for chunk in chunks:
                visit.has_answered = True
                has_ended = job.take(chunk) or has_ended
        if not has_ended:
            raise VllmError("broken", "ended a completion without saying why")

    async def _score(self, ids: Sequence[int], adapter: str | None) -> list[float]:
        place = Place(adapter=adapter, client=_prefix(ids), rank=RANKS["ahead"], deadline=math.inf)

        async def work(visit: Visit) -> list[float]:
            visit.has_answered = True  # it is slow, not silent
            return await visit.server.score(ids, adapter or self._pool.base)

        return await self._visited(place, work, lambda: True)


def _place(job: Job) -> Place:
    request = job.request
    client = f"{request.tenant}\0{request.client or _prefix(request.ids)}"
    return Place(adapter=job.adapter, client=client, rank=RANKS[request.priority], deadline=request.deadline)


def _prefix(ids: Sequence[int]) -> str:
    return " ".join(map(str, ids[:_PREFIX]))


def _cancel_task(job: Job) -> None:
    if job.task is not None:  # else it is cancelled when it begins
        job.task.cancel()


def _told(error: BaseException) -> HomespunError:
    if isinstance(error, HomespunError):
        return error
    logger.error("a completion failed", exc_info=error)
    return ServiceError(f"the engine failed ({type(error).__name__}); see the server's log")
