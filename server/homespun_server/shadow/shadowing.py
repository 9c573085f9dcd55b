"""Lets a candidate complete what the live adapter has just completed, for nobody to see.

It costs a set share of the time at most, and nothing while anybody waits: one place at a time, at the lowest priority,
only where the engine has nothing else to do, and then a pause of many times what it took. Texts stay in memory until
what was written there is known, ten minutes at most; what is kept of them are numbers.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import math
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

from homespun_core.errors import HomespunError
from homespun_core.paths import DataDir
from homespun_core.prompt import Prompt
from homespun_core.types import Completion, Tokenizer
from homespun_server.engine.protocol import Engine, EngineBusyError
from homespun_server.shadow import facts
from homespun_server.shadow.facts import ShadowFact, Written
from homespun_server.shadow.typed import line_typed
from homespun_server.work import Work, is_opportunity

logger = logging.getLogger(__name__)

_SHARE = 0.05
"""Of the time."""
_MAX_PLACES = 200
_MAX_AGE_S = 600.0
_PATIENCE_S = 60.0
"""So long a place isn't given up for another one in the same file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Silent:
    """What an adapter wrote that nobody sees."""

    text: str
    ms_per_token: float | None


Silently = Callable[[Work, str], Awaitable[Silent]]
"""Completes once more with another adapter. Raises HomespunError."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Place:
    repository: str
    """Directory name of the candidate's adapters."""
    before: str
    prompt: Prompt
    champion: str | None
    candidate: str
    """Both by their names in the engine."""
    texts: tuple[str, str]
    """First lines, the champion's first."""
    fact: ShadowFact


class Shadow:
    """For one event loop."""

    def __init__(
        self, engine: Engine, tokenizer: Tokenizer, data: DataDir, percent: float, share: float = _SHARE
    ) -> None:
        self._engine, self._tokenizer, self._data = engine, tokenizer, data
        self._percent, self._pause = percent, 1 / share
        self._places: OrderedDict[tuple[str, str], _Place] = OrderedDict()
        """By person and file, the oldest first."""
        self._task: asyncio.Task[None] | None = None
        self._free_at = 0.0

    def consider(self, work: Work, completion: Completion, silently: Silently) -> None:
        """Returns at once. Told of every completion: later ones say what was written where earlier ones were."""
        if not is_opportunity(work):
            return
        self._expire()
        if self._task is not None or time.monotonic() < self._free_at or not self._is_idle():
            return
        key = (work.request.whose or "", work.request.path or "")
        place = self._places.get(key)
        line = line_typed(place.before, work.request.prefix) if place is not None else None
        if place is not None and line is not None:
            del self._places[key]
            self._begin(self._compare(place, line))
        elif (place is None or place.fact.time < time.time() - _PATIENCE_S) and self._is_chosen(work):
            self._begin(self._complete(key, work, completion, silently))

    async def idle(self) -> None:
        """Until what was begun is done."""
        if self._task is not None:
            await asyncio.wait([self._task])

    def _is_idle(self) -> bool:
        load = self._engine.load()
        return not load.num_running and not load.num_waiting

    def _is_chosen(self, work: Work) -> bool:
        """A share of the places that the live adapter completed, drawn by the text before them."""
        repository = work.repository
        if repository is None or repository.candidate is None or work.adapter != repository.adapter or work.degraded:
            return False
        digest = hashlib.blake2b(work.request.prefix[-4_000:].encode(), digest_size=8, person=b"shadow").digest()
        return int.from_bytes(digest) * 100 < self._percent * 2**64

    def _begin(self, what: Awaitable[None]) -> None:
        self._task = asyncio.ensure_future(self._bounded(what))

    async def _bounded(self, what: Awaitable[None]) -> None:
        started = time.monotonic()
        try:
            await what
        except Exception:  # a job beside the requests: it must not end anything
            logger.exception("the shadow of a completion failed")
        finally:
            now = time.monotonic()
            self._free_at, self._task = now + (now - started) * self._pause, None

    async def _complete(self, key: tuple[str, str], work: Work, completion: Completion, silently: Silently) -> None:
        repository = work.repository
        assert repository is not None and repository.candidate is not None
        place, _, version = repository.candidate.rpartition("/")
        champion = repository.adapter.rpartition("/")[2] if repository.adapter else None
        fact = ShadowFact(time=time.time(), candidate=version, champion=champion)
        try:
            made = await silently(work, repository.candidate)
        except EngineBusyError:  # nothing about the candidate
            return
        except HomespunError as error:
            logger.info("the candidate %s failed in the shadow: %s", version, error)
            await self._keep(place, replace(fact, failed=True))
            return
        texts = (_first_line(completion.text), _first_line(made.text))
        fact = replace(
            fact, agrees=texts[0] == texts[1], champion_ms=ms_per_token(work), candidate_ms=made.ms_per_token
        )
        if (replaced := self._places.pop(key, None)) is not None:
            await self._keep(replaced.repository, replaced.fact)
        self._places[key] = _Place(
            repository=place,
            before=work.request.prefix,
            prompt=work.prompt,
            champion=repository.adapter,
            candidate=repository.candidate,
            texts=texts,
            fact=fact,
        )

    async def _compare(self, place: _Place, line: str) -> None:
        bits = [await self._bits(place, line, adapter) for adapter in (place.champion, place.candidate)]
        written = Written(
            champion_right=place.texts[0] == line,
            candidate_right=place.texts[1] == line,
            champion_bits=bits[0],
            candidate_bits=bits[1],
            bytes=len(line.encode()),
        )
        await self._keep(place.repository, replace(place.fact, written=written))

    async def _bits(self, place: _Place, line: str, adapter: str | None) -> float:
        written = self._tokenizer.encode(place.prompt.opening + line) if line else []
        ids = [*place.prompt.ids, *written][: self._engine.max_context]
        if len(ids) <= len(place.prompt.ids):
            return 0.0
        scores = await asyncio.to_thread(self._engine.score, ids, len(place.prompt.ids), adapter)
        return -sum(scores) / math.log(2)

    def _expire(self) -> None:
        """What nobody came back to is kept without what was written."""
        limit = time.time() - _MAX_AGE_S
        while self._places and (len(self._places) > _MAX_PLACES or next(iter(self._places.values())).fact.time < limit):
            _, place = self._places.popitem(last=False)
            self._write(place.repository, place.fact)

    async def _keep(self, repository: str, fact: ShadowFact) -> None:
        await self._write(repository, fact)

    def _write(self, repository: str, fact: ShadowFact) -> asyncio.Future[None]:
        """Beside the requests: it waits for the disk."""
        append, place = facts.append, self._data.adapters(repository)
        return asyncio.get_running_loop().run_in_executor(None, append, place, fact)


def ms_per_token(work: Work) -> float | None:
    stats = work.stats
    return stats.decode_ms / stats.completion_tokens if stats and stats.completion_tokens else None


def _first_line(text: str) -> str:
    return text.partition("\n")[0].rstrip()
