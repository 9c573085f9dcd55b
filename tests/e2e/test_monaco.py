"""VS Code's own ghost text: Monaco in headless Chromium speaks to the real language server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from tests.e2e.clients.monaco import Monaco, monaco
from tests.lsp.fake_server import HOLD, FakeServer, Request, fake_server

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]  # the first download counts


@pytest.fixture
async def fake() -> AsyncIterator[FakeServer]:
    async with fake_server() as server:
        yield server


@pytest.fixture
async def editor() -> AsyncIterator[Monaco]:
    async with monaco() as opened:
        yield opened


def reply(text: str) -> dict[str, object]:
    return {"id": "cmpl-7", "choices": [{"index": 0, "text": text}]}


def completions(fake: FakeServer) -> list[Request]:
    """Without those that look ahead."""
    asked = [request for request in fake.requests if request.path == "/v1/completions"]
    return [request for request in asked if request.body["homespun"].get("trigger") != "ahead"]


async def told(fake: FakeServer, kind: str) -> int:
    """How many characters the server is told of, once it is."""
    async with asyncio.timeout(20):
        while True:
            events = [e for r in fake.requests if r.path == "/v1/homespun/events" for e in r.body["events"]]
            if found := [e["characters"] for e in events if e["kind"] == kind]:
                return int(found[-1])
            await asyncio.sleep(0.02)


async def test_typing_shows_ghost_text_and_tab_accepts_it(fake: FakeServer, editor: Monaco) -> None:
    fake.default = reply("llo(name)")
    await editor.start("|\n", serverUrl=fake.url)
    await editor.type("he")
    await editor.shows("llo(name)")
    await editor.press("Tab")
    await editor.shows(None)
    assert await editor.text() == "hello(name)\n"
    assert await told(fake, "accepted") == len("llo(name)")


async def test_words_and_lines_are_accepted_one_by_one(fake: FakeServer, editor: Monaco) -> None:
    fake.default = reply("first(second)\nthird(fourth)\nfifth()")
    await editor.start("|", serverUrl=fake.url)
    await editor.type("x = ")
    await editor.shows("first(second)\nthird(fourth)\nfifth()")
    await editor.run("editor.action.inlineSuggest.acceptNextWord")
    await editor.shows("(second)\nthird(fourth)\nfifth()")
    await editor.run("editor.action.inlineSuggest.acceptNextLine")
    await editor.shows("third(fourth)\nfifth()")
    assert await editor.text() == "x = first(second)\n"
    assert await told(fake, "accepted") == len("first(second)\n")


async def test_escape_hides_it_until_somebody_types_on(fake: FakeServer, editor: Monaco) -> None:
    fake.default = reply("completed")
    await editor.start("|\n", serverUrl=fake.url)
    await editor.type("x = ")
    await editor.shows("completed")
    await editor.press("Escape")
    await editor.shows(None)
    await editor.type("c")
    await editor.shows("ompleted")


async def test_typing_through_a_suggestion_asks_nobody(fake: FakeServer, editor: Monaco) -> None:
    fake.default = reply("completed")
    await editor.start("|\n", serverUrl=fake.url)
    await editor.type("x = ")
    await editor.shows("completed")
    before = len(completions(fake))
    await editor.type("compl")
    await editor.shows("eted")
    assert len(completions(fake)) == before
    await editor.press("Tab")
    assert await editor.text() == "x = completed\n"


async def test_what_is_typed_over_is_cancelled_up_to_the_server(fake: FakeServer, editor: Monaco) -> None:
    fake.replies.append(HOLD)
    fake.default = reply("(new)")
    await editor.start("|\n", serverUrl=fake.url, debounceMs=0)
    await editor.type("x")
    first = await fake.arrived(1)
    await editor.type("y")
    await editor.shows("(new)")
    async with asyncio.timeout(10):
        await first.closed.wait()
    assert [request.body["prompt"] for request in completions(fake)] == ["x", "xy"]
    assert editor.server.requests("$/cancelRequest")


async def test_with_the_list_open_it_continues_the_chosen_entry(fake: FakeServer, editor: Monaco) -> None:
    fake.default = reply("(width)")
    await editor.start("|\n", words=("format_name", "format_number"), serverUrl=fake.url)
    await editor.type("fo")
    await editor.run("editor.action.triggerSuggest")
    await editor.shows("rmat_name(width)")
    await editor.press("ArrowDown")
    await editor.shows("rmat_number(width)")
    assert completions(fake)[-1].body["prompt"] == "format_number"


async def test_several_lines_before_a_closing_bracket(fake: FakeServer, editor: Monaco) -> None:
    fake.default = reply("a,\n    b,\n")
    await editor.start("f(|)\n", serverUrl=fake.url)
    await editor.type(" ")
    await editor.shows("a,\n    b,\n)")
    await editor.press("Tab")
    assert await editor.text() == "f( a,\n    b,\n)\n"


async def test_line_ends_of_windows_stay(fake: FakeServer, editor: Monaco) -> None:
    fake.default = reply("a(\n    b)")
    await editor.start("x = 1\r\n|\r\nz = 3\r\n", serverUrl=fake.url)
    await editor.type("y = ")
    await editor.shows("a(\n    b)")
    await editor.press("Tab")
    assert await editor.text() == "x = 1\r\ny = a(\r\n    b)\r\nz = 3\r\n"
    assert completions(fake)[-1].body["suffix"].startswith("\nz"), "the model knows one kind of line end"


async def test_an_emoji_before_the_cursor_moves_nothing(fake: FakeServer, editor: Monaco) -> None:
    fake.default = reply("'🧵'")
    await editor.start("s = '🧶' |\n", serverUrl=fake.url)
    await editor.type("+ ")
    await editor.shows("'🧵'")
    await editor.press("Tab")
    assert await editor.text() == "s = '🧶' + '🧵'\n"
    assert completions(fake)[-1].body["prompt"] == "s = '🧶' + "
