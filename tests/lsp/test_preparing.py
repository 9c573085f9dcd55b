"""What is computed before the first key, with a real process: where, and where not."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from homespun_lsp.preparing import REST_S
from tests.lsp.editor import Buffer, Editor, editor
from tests.lsp.fake_server import HOLD, FakeServer


def focus(session: Editor, buffer: Buffer) -> None:
    position = {"line": buffer.position.line, "character": buffer.position.character}
    params = {"textDocument": {"uri": buffer.uri}, "position": position}
    session.client.protocol.notify("textDocument/didFocus", params)


async def nothing_comes(fake: FakeServer, count: int = 0) -> None:
    await asyncio.sleep(REST_S * 2)
    assert len(fake.requests) == count


async def test_where_the_cursor_rests_the_prompt_is_computed_that_the_first_key_needs(fake: FakeServer) -> None:
    async with editor(serverUrl=fake.url, prefetch=True, debounceMs=0) as session:
        buffer = session.open("def f():\n    return |\n", "/nowhere/a.py")
        focus(session, buffer)
        prepared = await fake.arrived(1)
        focus(session, buffer)
        await nothing_comes(fake, 1)
        buffer.type("x")
        await buffer.ghost()
    assert prepared.body["max_tokens"] == 0 and "user" not in prepared.body["homespun"]
    typed = fake.requests[1].body
    assert typed["prompt"] == prepared.body["prompt"] + "x" and typed["suffix"] == prepared.body["suffix"]
    same = ("path", "language", "client")
    assert [typed["homespun"].get(k) for k in same] == [prepared.body["homespun"].get(k) for k in same]


async def test_a_key_ends_it_and_another_place_too(fake: FakeServer) -> None:
    fake.replies.extend([HOLD, HOLD])
    async with editor(serverUrl=fake.url, prefetch=True, debounceMs=0) as session:
        buffer, other = session.open("x = |\n"), session.open("y = |\n")
        for held, place in enumerate((buffer, other), start=1):
            focus(session, place)
            await fake.arrived(held)
        await fake.requests[0].closed.wait()
        other.type("1")
        assert await other.ghost()
        await fake.requests[1].closed.wait()
    assert [request.body["max_tokens"] for request in fake.requests] == [0, 0, 32]


async def test_a_cursor_on_its_way_prepares_nothing_on_it(fake: FakeServer) -> None:
    async with editor(serverUrl=fake.url, prefetch=True) as session:
        buffer = session.open("a = \nb = \nc = |\n")
        for cursor in (4, 9, 14):
            buffer.cursor = cursor
            focus(session, buffer)
        assert (await fake.arrived(1)).body["prompt"] == "a = \nb = \nc = "
        await nothing_comes(fake, 1)


async def test_a_rest_where_nothing_is_asked_for_yet_prepares_the_next_key(fake: FakeServer) -> None:
    async with editor(serverUrl=fake.url, prefetch=True) as session:
        buffer = session.open("f()|\n")
        assert await buffer.ghost() is None
        assert (await fake.arrived(1)).body["max_tokens"] == 0
        middle = session.open("wo|rd\n")
        assert await middle.ghost() is None
        await nothing_comes(fake, 1)


@pytest.mark.parametrize(
    "options", [{"prefetch": False}, {"enable": False}, {"languages": {"python": False}}, {"backend": "openai"}]
)
async def test_what_is_switched_off_prepares_nothing(fake: FakeServer, options: dict[str, Any]) -> None:
    async with editor(serverUrl=fake.url, **{"prefetch": True, **options}) as session:
        focus(session, session.open("x = |\n"))
        await nothing_comes(fake)


async def test_secrets_are_not_sent_for_it_either(fake: FakeServer, tmp_path: Path) -> None:
    async with editor(serverUrl=fake.url, prefetch=True) as session:
        focus(session, session.open("x = |", tmp_path / ".env"))
        await nothing_comes(fake)


@pytest.mark.parametrize("page", [{"data": [{"id": "m", "owned_by": "vllm"}]}, 404, 503])
async def test_servers_that_may_not_know_of_it_are_not_asked(fake: FakeServer, page: object) -> None:
    fake.pages["/v1/models"] = page
    async with editor(serverUrl=fake.url, prefetch=True) as session:
        focus(session, session.open("x = |\n"))
        await nothing_comes(fake)


async def test_a_server_that_refuses_it_is_still_asked_for_suggestions(fake: FakeServer) -> None:
    fake.replies.extend([429])
    async with editor(serverUrl=fake.url, prefetch=True, debounceMs=0) as session:
        buffer = session.open("x = |\n")
        focus(session, buffer)
        await fake.arrived(1)
        buffer.type("1")
        assert await buffer.ghost()
        assert session.log == []


@pytest.mark.parametrize(
    "position", [None, 7, {"line": "1"}, {"line": -4, "character": -1}, {"line": 99, "character": 9}]
)
async def test_a_position_that_makes_no_sense_hurts_nobody(fake: FakeServer, position: object) -> None:
    async with editor(serverUrl=fake.url, prefetch=True) as session:
        buffer = session.open("x = |\n")
        params = {"textDocument": {"uri": buffer.uri}, "position": position}
        session.client.protocol.notify("textDocument/didFocus", params)
        assert await buffer.ghost()
        assert session.log == []
