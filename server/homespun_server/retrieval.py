"""Snippets within a deadline, and the same ones from keystroke to keystroke."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal
from weakref import ReferenceType, ref

from homespun_core.types import SearchQuery, Snippet
from homespun_indexer.reader import IndexReader, Searched

logger = logging.getLogger(__name__)

_NEAR_LINES = 4
_FRESH_S = 30.0
_MAX_PLACES = 256
_NUM_THREADS = 2


@dataclass(frozen=True, slots=True)
class Found:
    snippets: tuple[Snippet, ...]
    outcome: Literal["found", "kept", "partial", "timeout", "error"]
    """`partial`: the deadline left an arm no time, now or when what is kept was found."""
    is_fewer: bool = False
    """Whether what is kept was found when fewer were to be retrieved than now."""


@dataclass(frozen=True, slots=True)
class _Place:
    reader: ReferenceType[IndexReader]
    """Weak, or every place would keep the index it was found in, long after that was replaced."""
    above: frozenset[str]
    line: int
    at: float
    limit: int
    found: Found

    def is_near(self, query: SearchQuery) -> bool:
        """By the lines that stood above, most of which must still stand around: editors send the end of a long prefix
        only, so that lines can't be counted in it. Where none stood there, at the top of a file, by counting."""
        if time.monotonic() - self.at >= _FRESH_S:
            return False
        if not self.above:
            return abs(self.line - _line(query)) <= _NEAR_LINES
        return 2 * len(self.above & _around(query)) >= len(self.above)


class Retriever:
    """Snippets stay while the cursor stays near: they stand at the start of the prompt, so that other snippets would
    void the KV cache of all of it, and a keystroke would cost a whole prefill (benchmarks/latency.py)."""

    def __init__(self, *, deadline_ms: int) -> None:
        self._deadline_s = deadline_ms / 1e3
        self._threads = ThreadPoolExecutor(_NUM_THREADS, thread_name_prefix="retrieve")
        self._places: OrderedDict[tuple[str, str], _Place] = OrderedDict()

    def close(self) -> None:
        self._threads.shutdown(cancel_futures=True)

    async def search(self, tenant: str, reader: IndexReader, query: SearchQuery, limit: int) -> Found:
        """At most `limit` new usages. Never raises for what a search does: without snippets, a completion is only less
        informed. One that fails leaves what the place had, or the prompt would be computed without and then again with.
        """
        key = (tenant, query.path or query.prefix[:200])
        place = self._places.get(key)
        if place is not None and place.reader() is reader and place.is_near(query):
            kept = replace(place.found, is_fewer=place.limit < limit)
            return replace(kept, outcome="kept") if kept.outcome == "found" else kept
        if limit <= 0:
            return Found((), "kept")
        found = await self._within_deadline(reader, query, limit)
        if place is not None and place.reader() is reader and found.outcome in ("timeout", "error"):
            return replace(found, snippets=place.found.snippets)
        if found.outcome in ("found", "partial"):
            self._places[key] = _Place(ref(reader), _above(query), _line(query), time.monotonic(), limit, found)
            self._places.move_to_end(key)
            if len(self._places) > _MAX_PLACES:
                self._places.popitem(last=False)
        return found

    async def _within_deadline(self, reader: IndexReader, query: SearchQuery, limit: int) -> Found:
        search = partial(reader.search_within, self._deadline_s, query, limit)
        future = asyncio.get_running_loop().run_in_executor(self._threads, search)
        future.add_done_callback(_log_failure)
        try:
            await asyncio.wait([future], timeout=self._deadline_s)
        finally:  # also where the client is gone: searches that nobody waits for would make the next one late
            future.cancel()  # one that has not begun; one that has runs out unheard
        if future.cancelled() or not future.done():
            return Found((), "timeout")
        if future.exception() is not None:
            return Found((), "error")
        searched = future.result()
        return Found(tuple(searched.snippets), "found" if searched.is_whole else "partial")


def _line(query: SearchQuery) -> int:
    return query.prefix.count("\n")


def _above(query: SearchQuery) -> frozenset[str]:
    return _telling(query.prefix.split("\n")[-2 * _NEAR_LINES - 1 : -1])


def _around(query: SearchQuery) -> frozenset[str]:
    """Where the lines above may be when the cursor has moved by a few."""
    above, below = query.prefix.split("\n"), query.suffix.split("\n", _NEAR_LINES + 1)
    return _telling([*above[-3 * _NEAR_LINES - 1 : -1], above[-1] + below[0], *below[1 : _NEAR_LINES + 1]])


def _telling(lines: Iterable[str]) -> frozenset[str]:
    """Without brackets and rules, which stand everywhere."""
    return frozenset(line.strip() for line in lines if any(map(str.isalnum, line)))


def _log_failure(future: asyncio.Future[Searched]) -> None:
    error = None if future.cancelled() else future.exception()
    if error is not None:
        logger.error("a search failed (%s)", type(error).__name__, exc_info=error)
