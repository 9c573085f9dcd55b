from __future__ import annotations

import gc
import threading
import time
import weakref
from collections.abc import Callable
from dataclasses import replace
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


def _query(prefix: str, path: str | None = "x.py", suffix: str = "") -> SearchQuery:
    return SearchQuery(prefix=prefix, suffix=suffix, path=path, language=None)


async def _search(retriever: Retriever, reader: Reader, query: SearchQuery, limit: int = 2) -> Found:
    return await retriever.search("repo", cast(IndexReader, reader), query, limit)


_FILE = "".join(f"line_{n} = {n}\n" for n in range(400))
_SENT = 2_000
"""Characters before the cursor that the editor sends."""


def _at(line: int, typed: str = "") -> SearchQuery:
    place = _FILE.index(f"line_{line} ")
    return _query((_FILE[:place] + typed)[-_SENT:], suffix=_FILE[place:])


async def test_snippets_stay_while_the_cursor_stays_near() -> None:
    retriever, reader = Retriever(deadline_ms=5_000), Reader(_snippets)
    first = await _search(retriever, reader, _at(300))
    assert first.outcome == "found" and len(first.snippets) == 2
    near = [_at(300, "typed"), _at(300, "a\nb\nc\nd\n"), *(_at(300 + moved) for moved in range(-4, 5))]
    for query in near:
        assert await _search(retriever, reader, query) == Found(first.snippets, "kept")
    assert len(reader.asked) == 1


async def test_lines_above_that_are_edited_keep_the_snippets() -> None:
    retriever, reader = Retriever(deadline_ms=5_000), Reader(_snippets)
    first = await _search(retriever, reader, _at(300))
    edited = _at(300).prefix.replace("line_299", "first").replace("line_298", "second").replace("line_297", "third")
    assert await _search(retriever, reader, _query(edited, suffix=_at(300).suffix)) == Found(first.snippets, "kept")


@pytest.mark.parametrize("line", [200, 290, 310, 399])
async def test_a_jump_is_searched_anew_however_much_of_the_file_is_sent(line: int) -> None:
    retriever, reader = Retriever(deadline_ms=5_000), Reader(_snippets)
    assert _at(300).prefix.count("\n") - _at(310).prefix.count("\n") in (-1, 0, 1), "the lines of both are as many"
    await _search(retriever, reader, _at(300))
    assert (await _search(retriever, reader, _at(line))).outcome == "found"
    assert (await _search(retriever, reader, replace(_at(line), path="y.py"))).outcome == "found"


async def test_where_no_line_above_tells_anything_lines_are_counted() -> None:
    retriever, reader = Retriever(deadline_ms=5_000), Reader(_snippets)
    first = await _search(retriever, reader, _query("\n" * 10))
    for prefix in ("\n" * 10 + "typed", "\n" * 14, "\n" * 8):
        assert await _search(retriever, reader, _query(prefix)) == Found(first.snippets, "kept")
    assert (await _search(retriever, reader, _query("\n" * 30))).outcome == "found"


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
