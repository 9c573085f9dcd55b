"""A server that answers anything but a completion: no suggestion, a line in the log, and it is asked again later."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from tests.lsp.editor import Invoked, editor
from tests.lsp.fake_server import FakeServer
from tests.lsp.hostile import Hostile, completed, hostile, plain

OK = b"HTTP/1.1 200 x\r\n"
GARBAGE = {
    "half a body": OK + b'content-length: 1000\r\n\r\n{"choices": [{"text": "x',
    "no body": OK + b"\r\n",
    "no reply": b"",
    "no HTTP": b"220 mail.example.com ESMTP\r\n",
    "a head without end": OK + b"x-a: " + b"a" * 200_000,
    "chunks that are none": OK + b"transfer-encoding: chunked\r\n\r\nzz\r\n{}\r\n",
    "gzip that is none": plain(b"{}", headers="content-encoding: gzip\r\n"),
    "no JSON": plain(b"{{{"),
    "no text": plain(b"\xff\xfe\x00"),
    "deep JSON": plain(b"[" * 200_000),
    "a huge number": plain(b"9" * 100_000),
    "no choice": plain(b'{"choices": []}'),
    "another kind": plain(b'{"choices": [{"text": {"a": 1}}]}'),
    "a list": plain(b"[1, 2]"),
    "an error page": plain(b"<html>502 Bad Gateway</html>"),
    "an odd wait": plain(b"", 429, "retry-after: " + "9" * 5_000 + "\r\n"),
}

TEXTS = {
    "first\r\nsecond\rthird": "first\nsecond\nthird",
    "nul\0rest": "nul",
    "half \ud83d": "half ",
    "half \ude00 rest": "half ",
    "emoji \U0001f600": "emoji \U0001f600",
    "line\u2028end": "line",
    "if admin\u202e {": "if admin",
    "\0": "",
    "x" * 1_000_000: "x" * 10_000,
}


@pytest.fixture
async def server() -> AsyncIterator[Hostile]:
    async with hostile() as opened:
        yield opened


async def test_garbage_gives_no_suggestion_and_what_comes_after_it_does(server: Hostile) -> None:
    async with editor(serverUrl=server.url, debounceMs=0) as session:
        buffer = session.open("|")
        for name, reply in GARBAGE.items():
            server.reply = reply
            buffer.type("x")
            assert await buffer.ghost(Invoked) is None, name
        server.reply = completed("well")
        buffer.type("x")
        item = await buffer.ghost(Invoked)
        assert item and item.insert_text == "well"
        assert len(session.log) <= len(GARBAGE) + 1


async def test_a_reply_that_never_ends_is_left_before_it_fills_the_memory(server: Hostile) -> None:
    server.reply, server.endless = OK + b'\r\n{"choices": [{"text": "', b"x" * 65_536
    async with editor(serverUrl=server.url, timeoutMs=60_000) as session:
        assert await session.open("x = |").ghost() is None
        await asyncio.wait_for(server.left.wait(), 20)
        assert "something else than a completion" in session.log[0]


async def test_a_reply_that_trickles_in_does_not_outlast_the_time_it_was_given(server: Hostile) -> None:
    """Each piece came in time, so that all of them had as long as they liked."""
    server.reply, server.endless = OK + b"\r\n", b" "
    async with editor(serverUrl=server.url, timeoutMs=200) as session:
        assert await session.open("x = |").ghost() is None
        await asyncio.wait_for(server.left.wait(), 20)
        assert "in time" in session.log[0]


async def test_text_that_no_editor_takes_well_ends_before_it(server: Hostile) -> None:
    async with editor(serverUrl=server.url, debounceMs=0) as session:
        for text, shown in TEXTS.items():
            server.reply = completed(text)
            item = await session.open("x = |").ghost()
            assert (item.insert_text if item else "") == shown


async def test_a_redirect_takes_neither_token_nor_code_elsewhere(server: Hostile, fake: FakeServer) -> None:
    async with editor(serverUrl=server.url, token="s3cret", debounceMs=0) as session:
        buffer = session.open("|")
        for status in (301, 302, 303, 307, 308):
            server.reply = plain(b"", status, f"location: {fake.url}/v1/completions\r\n")
            buffer.type("x")
            assert await buffer.ghost(Invoked) is None
        assert "sends us elsewhere" in session.log[0]
    assert b"Bearer s3cret" in server.heads[-1] and not fake.requests and not fake.questions
