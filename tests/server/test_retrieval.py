from __future__ import annotations

import gc
import threading
import time
import weakref
from collections.abc import Callable
from typing import Any, cast

import pytest

from homespun_core.types import SearchQuery, Snippet
from homespun_indexer.reader import IndexReader, Searched
from homespun_server.retrieval import Found, Retriever

Search = Callable[[SearchQuery, int], list[Snippet]]


class Reader:
    """A search as a test wants it, and what it was asked."""

    def __init__(self, search: Search, *, is_whole: bool = True) -> None:
        self._search, self._is_whole = search, is_whole
        self.asked: list[SearchQuery] = []
        self.deadline_s = 0.0

    def search_within(self, deadline_s: float, query: SearchQuery, limit: int) -> Searched:
        self.asked.append(query)
        self.deadline_s = deadline_s
        return Searched(self._search(query, limit), self._is_whole)


def _snippets(query: SearchQuery, limit: int) -> list[Snippet]:
    return [Snippet(path="a.py", start_line=1, text=str(len(query.prefix)), score=1.0, source="usage")] * limit


def _query(prefix: str, path: str | None = "x.py") -> SearchQuery:
    return SearchQuery(prefix=prefix, suffix="", path=path, language=None)


async def _search(retriever: Retriever, reader: Reader, query: SearchQuery, limit: int = 2) -> Found:
    return await retriever.search("repo", cast(IndexReader, reader), query, limit)


async def test_snippets_stay_while_the_cursor_stays_near() -> None:
    retriever, reader = Retriever(deadline_ms=5_000), Reader(_snippets)
    first = await _search(retriever, reader, _query("a\n" * 10))
    assert first.outcome == "found" and len(first.snippets) == 2
    for prefix in ("a\n" * 10 + "typed", "a\n" * 14, "a\n" * 8):
        assert await _search(retriever, reader, _query(prefix)) == Found(first.snippets, "kept")
    assert (await _search(retriever, reader, _query("a\n" * 30))).outcome == "found"
    assert (await _search(retriever, reader, _query("a\n" * 30, "y.py"))).outcome == "found"
    assert len(reader.asked) == 3


async def test_a_new_index_is_searched_at_once_and_the_old_one_let_go() -> None:
    retriever, old = Retriever(deadline_ms=5_000), Reader(_snippets)
    await _search(retriever, old, _query("a"))
    assert (await _search(retriever, Reader(_snippets), _query("a"))).outcome == "found"
    await _search(retriever, old, _query("b", "b.py"))
    held = weakref.ref(old)
    del old
    retriever.close()  # its threads hold their last call otherwise
    gc.collect()
    assert held() is None


async def test_where_none_may_be_retrieved_those_of_the_place_stay() -> None:
    retriever, reader = Retriever(deadline_ms=5_000), Reader(_snippets)
    assert await _search(retriever, reader, _query("a"), limit=0) == Found((), "kept")
    first = await _search(retriever, reader, _query("a"))
    assert await _search(retriever, reader, _query("ab"), limit=0) == Found(first.snippets, "kept")
    assert len(reader.asked) == 1


async def test_a_slow_search_costs_the_deadline_and_the_snippets_only() -> None:
    def slow(query: SearchQuery, limit: int) -> list[Snippet]:
        time.sleep(0.3)
        return _snippets(query, limit)

    retriever, started = Retriever(deadline_ms=20), time.monotonic()
    reader = Reader(slow)
    assert await _search(retriever, reader, _query("a")) == Found((), "timeout")
    assert time.monotonic() - started < 0.2
    assert reader.deadline_s == 0.02  # so that it doesn't begin what nobody waits for
    retriever.close()


@pytest.mark.parametrize("outcome", ["timeout", "error"])
async def test_a_search_that_fails_leaves_the_snippets_of_the_place(outcome: str) -> None:
    """Without them the whole prompt was computed, and once more when the next search was in time."""
    fails, over = False, threading.Event()

    def search(query: SearchQuery, limit: int) -> list[Snippet]:
        if fails and outcome == "error":
            raise ValueError("no index")
        assert not fails or over.wait(20)
        return _snippets(query, limit)

    retriever, reader = Retriever(deadline_ms=500), Reader(search)
    first = await _search(retriever, reader, _query("a"))
    fails = True
    far = _query("a\n" * 30)
    assert await _search(retriever, reader, far) == Found(first.snippets, outcome)  # type: ignore[arg-type]
    assert (await _search(retriever, Reader(search), far)).snippets == (), "another index may know them no longer"
    assert (await _search(retriever, reader, _query("a\n" * 30, "y.py"))).snippets == ()
    fails = False
    over.set()
    assert (await _search(retriever, reader, far)).outcome == "found"
    retriever.close()


async def test_a_search_that_ended_early_says_so_for_as_long_as_its_snippets_stay() -> None:
    retriever, reader = Retriever(deadline_ms=5_000), Reader(_snippets, is_whole=False)
    first = await _search(retriever, reader, _query("a"))
    assert first.outcome == "partial" and len(first.snippets) == 2
    assert await _search(retriever, reader, _query("ab")) == first
    assert len(reader.asked) == 1


async def test_snippets_found_while_fewer_were_allowed_say_so_for_as_long_as_they_stay() -> None:
    retriever, reader = Retriever(deadline_ms=5_000), Reader(_snippets)
    first = await _search(retriever, reader, _query("a"), limit=1)
    assert len(first.snippets) == 1 and not first.is_fewer
    assert await _search(retriever, reader, _query("ab"), limit=3) == Found(first.snippets, "kept", is_fewer=True)
    assert await _search(retriever, reader, _query("ab"), limit=1) == Found(first.snippets, "kept")
    assert len(reader.asked) == 1


async def test_a_failing_search_is_logged_without_what_was_searched(caplog: Any) -> None:
    def broken(query: SearchQuery, limit: int) -> list[Snippet]:
        raise ValueError("no index")

    retriever = Retriever(deadline_ms=5_000)
    assert await _search(retriever, Reader(broken), _query("secret_name")) == Found((), "error")
    assert "a search failed (ValueError)" in caplog.text and "secret_name" not in caplog.text
