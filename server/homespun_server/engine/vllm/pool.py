"""The vLLM servers together: which are well, which gets the next request, which adapters they should have.

For one event loop; nothing here is called from another thread.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import logging
import sys
import time
from collections.abc import AsyncGenerator, Collection, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from homespun_core.errors import HomespunError, ModelError, ServiceError
from homespun_server.engine.vllm.breaker import Breaker
from homespun_server.engine.vllm.routing import choose, ranked
from homespun_server.engine.vllm.server import VllmServer
from homespun_server.engine.vllm.wire import VllmError

logger = logging.getLogger(__name__)

_STRIKES = 2
"""Failed checks in a row until a server that is there counts as down: a busy one may answer late once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """What decides where a request goes, and when."""

    adapter: str | None
    """Name on the servers."""
    client: str
    """Requests with the same are best served by the same server."""
    rank: int
    deadline: float


@dataclass(slots=True)
class Visit:
    """A request's time at a server."""

    server: VllmServer
    begun_at: float
    has_answered: bool = False
    verdict: Breaker | None = None
    """None while it goes on, and when it was ended from outside."""


@dataclass(order=True, slots=True)
class _Waiter:
    rank: int
    deadline: float
    order: int
    place: Place = field(compare=False)
    avoid: Collection[VllmServer] = field(compare=False)
    turn: asyncio.Future[VllmServer] = field(compare=False)


class VllmPool:
    def __init__(self, servers: Sequence[VllmServer], *, concurrency: int, check_s: float, silence_s: float) -> None:
        self.servers = {server.url: server for server in servers}
        self.concurrency = concurrency
        self.base = ""
        """The base model's name on every server; the first that answers says it."""
        self.max_context = sys.maxsize
        self._check_s, self._silence_s = check_s, silence_s
        self._wanted: dict[str, tuple[Path, int]] = {}
        """Adapters by name: where they are, and how often they were loaded without being unloaded."""
        self._waiting: list[_Waiter] = []
        self._order = itertools.count()
        self._checked = asyncio.Condition()
        self._nudges = {url: asyncio.Event() for url in self.servers}
        self._problems: dict[str, str] = {}
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self, patience_s: float) -> None:
        """Returns once one server is ready. Raises ServiceError when none is after `patience_s`."""
        self._tasks = [asyncio.create_task(self._watch(server)) for server in self.servers.values()]
        try:
            async with asyncio.timeout(patience_s), self._checked:
                await self._checked.wait_for(lambda: bool(self.ready))
        except TimeoutError:
            raise ServiceError(f"no vLLM server is ready: {self._explanation()}") from None

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for server in self.servers.values():
            await server.close()

    @property
    def ready(self) -> list[VllmServer]:
        return [server for server in self.servers.values() if server.models is not None]

    @asynccontextmanager
    async def visit(self, place: Place, avoid: Collection[VllmServer]) -> AsyncGenerator[Visit]:
        """A server with room for the request, rather none of `avoid`; waits for it.

        Raises ServiceError when no server could take it. What comes of the visit is held for or against the server.
        """
        visit = Visit(await self._turn(place, avoid), time.monotonic())
        try:
            yield visit
            visit.verdict = visit.server.breaker.succeeded()
        except VllmError as error:
            self._blame(visit, error, place)
            raise
        finally:
            self._leave(visit)

    async def load(self, name: str, path: Path) -> None:
        """On all servers that are ready; others get it when they are. Raises ModelError, and then none has it."""
        count = self._wanted[name][1] if name in self._wanted else 0
        self._wanted[name] = (path, count + 1)
        results = await asyncio.gather(*(self._load_on(s, name) for s in self.ready), return_exceptions=True)
        refusals = [result for result in results if isinstance(result, BaseException)]
        severe = next((r for r in refusals if not isinstance(r, VllmError)), None)
        if severe is None and len(refusals) < len(results):
            return
        await self.unload(name)
        raise severe or ModelError(f"{path}: no vLLM server loads it: {self._explanation(refusals)}")

    async def unload(self, name: str) -> None:
        """From all servers, unless it was loaded once more. Those that fail to are told again by their next check."""
        path, count = self._wanted.pop(name)
        if count > 1:
            self._wanted[name] = (path, count - 1)
            return
        servers = [s for s in self.ready if name in s.adapters]
        await asyncio.gather(*(self._unload_from(s, name) for s in servers), return_exceptions=True)

    async def _load_on(self, server: VllmServer, name: str) -> None:
        async with server.changing:
            if name in self._wanted and name not in server.adapters:
                await server.load_adapter(name, self._wanted[name][0])

    async def _unload_from(self, server: VllmServer, name: str) -> None:
        async with server.changing:
            if name not in self._wanted:
                await server.unload_adapter(name)

    async def _turn(self, place: Place, avoid: Collection[VllmServer]) -> VllmServer:
        turn: asyncio.Future[VllmServer] = asyncio.get_running_loop().create_future()
        entry = _Waiter(place.rank, place.deadline, next(self._order), place, avoid, turn)
        heapq.heappush(self._waiting, entry)
        self._dispatch()
        try:
            return await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled() and turn.exception() is None:
                self._leave(Visit(turn.result(), time.monotonic()))
            raise

    def _leave(self, visit: Visit) -> None:
        server, now = visit.server, time.monotonic()
        if visit.verdict is not None:
            server.breaker = visit.verdict
        elif not visit.has_answered and now - visit.begun_at >= self._silence_s:
            server.breaker = server.breaker.failed(now)  # a deadline came before the first sign of life
        else:
            server.breaker = server.breaker.abandoned()
        server.load -= 1
        self._dispatch()

    def _dispatch(self) -> None:
        """Give servers to those who wait, in order, as far as there is room."""
        kept: list[_Waiter] = []
        while self._waiting:
            waiter = heapq.heappop(self._waiting)
            if not waiter.turn.done() and not self._served(waiter):
                kept.append(waiter)
        self._waiting = kept  # sorted, so a heap

    def _served(self, waiter: _Waiter) -> bool:
        now, place = time.monotonic(), waiter.place
        order = ranked([*self.servers], place.adapter, place.client)
        able = [url for url in order if self.servers[url].is_ready(place.adapter, now)]
        able = [url for url in able if self.servers[url] not in waiter.avoid] or able
        if not able:
            waiter.turn.set_exception(ServiceError(f"no vLLM server can take it: {self._explanation()}"))
            return True
        url = choose(able, {url: self.servers[url].load for url in able}, self.concurrency)
        if url is None:
            return False
        server = self.servers[url]
        server.load += 1
        server.breaker = server.breaker.began(now)
        waiter.turn.set_result(server)
        return True

    def _blame(self, visit: Visit, error: VllmError, place: Place) -> None:
        server, now = visit.server, time.monotonic()
        visit.verdict = server.breaker.abandoned()
        if error.kind in ("broken", "gone"):
            visit.verdict = server.breaker.failed(now)
            if visit.verdict.state(now) == "open":
                logger.warning("vLLM at %s %s; left alone for a while", server.url, error)
        if error.kind == "missing" and place.adapter is not None:  # it was restarted, or somebody else unloaded it
            server.adapters.discard(place.adapter)
        if error.kind in ("gone", "missing"):
            self._nudges[server.url].set()

    async def _watch(self, server: VllmServer) -> None:
        strikes = 0
        while True:
            self._nudges[server.url].clear()
            try:
                await self._check(server)
                strikes = 0
            except HomespunError as error:
                strikes += 1
                is_gone = isinstance(error, VllmError) and error.kind == "gone"
                if is_gone or strikes >= _STRIKES or server.models is None:
                    self._put_down(server, str(error))
            async with self._checked:
                self._checked.notify_all()
            self._dispatch()
            with suppress(TimeoutError):
                async with asyncio.timeout(self._check_s):
                    await self._nudges[server.url].wait()

    async def _check(self, server: VllmServer) -> None:
        """Raises HomespunError when it isn't well. A server that comes back gets its adapters before any request."""
        known = {*server.adapters}
        models = await server.probe()
        self.base = self.base or models.base
        if models.base != self.base:
            raise ServiceError(f"serves {models.base!r}, the others {self.base!r}; serve the same model everywhere")
        is_restarted = bool(known & server.adapters - models.adapters)  # so quickly that no check saw it
        if server.models is None or is_restarted:
            server.models = None
            server.adapters = self._wanted.keys() & models.adapters
            await server.try_model(models.base)
            await self._sync(server)
            server.breaker = server.breaker.succeeded()
            logger.info("vLLM at %s is ready", server.url)
        else:
            await self._sync(server)
        server.models = models
        self.max_context = min(self.max_context, models.max_context)
        self._problems.pop(server.url, None)

    async def _sync(self, server: VllmServer) -> None:
        for name in [*self._wanted]:
            try:
                await self._load_on(server, name)
            except ModelError as error:  # it serves the base model and its other adapters all the same
                self._note(server, str(error))
        for name in server.adapters - self._wanted.keys():
            await self._unload_from(server, name)

    def _put_down(self, server: VllmServer, problem: str) -> None:
        server.models = None
        self._note(server, problem)

    def _note(self, server: VllmServer, problem: str) -> None:
        """Logged when it is another problem than before."""
        if self._problems.get(server.url) != problem:
            self._problems[server.url] = problem
            logger.warning("vLLM at %s: %s", server.url, problem)

    def _explanation(self, errors: Sequence[object] = ()) -> str:
        if errors:
            return "; ".join(map(str, errors))
        unknown = "left alone for a while after failures, or without the adapter"
        return "; ".join(f"{url} {self._problems.get(url, unknown)}" for url in self.servers)
