"""What goes over the wire to the Homespun server, and what is said when it doesn't answer."""

import asyncio
import socket

import pytest
from pygls.exceptions import JsonRpcException

from tests.lsp.editor import GHOST, Invoked, editor
from tests.lsp.fake_server import HOLD, FakeServer


async def test_a_superseded_request_is_cancelled_on_the_wire(fake: FakeServer) -> None:
    fake.replies.append(HOLD)
    async with editor(serverUrl=fake.url, debounceMs=0) as session:
        buffer = session.open("a|")
        older = buffer.ask()
        first = await fake.arrived(1)
        buffer.type("b")
        newer = buffer.ask()
        await asyncio.wait_for(first.closed.wait(), 20)
        assert await older is None, "null, which leaves what is shown to the newer one"
        result = await newer
        assert result and result.items[0].insert_text == "completed"
        assert fake.prompts == ["a", "ab"]


async def test_a_cancelled_request_costs_one_connection_and_others_none(fake: FakeServer) -> None:
    async with editor(serverUrl=fake.url, debounceMs=0) as session:
        buffer = session.open("a|")
        for count in range(1, 21):
            fake.default = f"answer {count}"  # agrees with nothing, so that each key asks
            assert await buffer.ghost()
            buffer.type("b")
        before = fake.num_connections
        assert before == 1, "that of the first question about the server"
        fake.replies.append(HOLD)
        buffer.ask()
        held = await fake.arrived(21)
        buffer.type("c")
        assert await buffer.ghost()
        await asyncio.wait_for(held.closed.wait(), 20)
        buffer.type("d")
        assert await buffer.ghost()
        assert fake.num_connections == before + 1
    assert not fake.overlapped


async def test_there_are_never_two_requests_in_flight_for_a_document(fake: FakeServer) -> None:
    fake.replies.extend([HOLD] * 5)
    async with editor(serverUrl=fake.url, debounceMs=0) as session:
        buffer = session.open("a|")
        asked = []
        for count, letter in enumerate("bcdef", start=1):
            asked.append(buffer.ask(Invoked))
            await fake.arrived(count)
            buffer.type(letter)
        last = await buffer.ghost(Invoked)
        assert last and [await task for task in asked] == [None] * 5
    assert not fake.overlapped


async def test_documents_do_not_cancel_one_another(fake: FakeServer) -> None:
    fake.replies.append(HOLD)
    async with editor(serverUrl=fake.url, debounceMs=0) as session:
        first, second = session.open("a|", "/a.py"), session.open("b|", "/b.py")
        waiting = first.ask()
        held = await fake.arrived(1)
        assert await second.ghost()
        held.reply.set_result("late")
        result = await waiting
        assert result and result.items[0].insert_text == "late"


async def test_a_burst_of_keys_is_one_request(fake: FakeServer) -> None:
    async with editor(serverUrl=fake.url, debounceMs=300) as session:
        buffer = session.open("|")
        asked = []
        for letter in "word":
            buffer.type(letter)
            asked.append(buffer.ask())
        results = [await task for task in asked]
        assert results[:3] == [None] * 3 and results[3]
        assert fake.prompts == ["word"]


async def test_asking_by_hand_does_not_wait(fake: FakeServer) -> None:
    async with editor(serverUrl=fake.url, debounceMs=3_600_000) as session:
        assert await session.open("x = |").ghost(Invoked)


async def test_a_request_the_editor_cancels_is_cancelled_on_the_wire(fake: FakeServer) -> None:
    fake.replies.append(HOLD)
    async with editor(serverUrl=fake.url, debounceMs=0) as session:
        buffer = session.open("a|")
        task = buffer.ask()
        held = await fake.arrived(1)
        session.cancel_all()
        await asyncio.wait_for(held.closed.wait(), 20)
        with pytest.raises(JsonRpcException, match="canceled"):
            await task


async def test_closing_the_document_cancels_its_request_on_the_wire(fake: FakeServer) -> None:
    fake.replies.append(HOLD)
    async with editor(serverUrl=fake.url, debounceMs=0) as session:
        buffer = session.open("a|")
        task = buffer.ask()
        held = await fake.arrived(1)
        buffer.close()
        await asyncio.wait_for(held.closed.wait(), 20)
        assert await task is None


async def test_typing_through_a_suggestion_sends_no_request(fake: FakeServer) -> None:
    fake.default = "hello_world(1)"
    async with editor(serverUrl=fake.url, capabilities=GHOST) as session:
        buffer = session.open("x = |")
        assert await buffer.ghost()
        for letter in "hello_":
            buffer.type(letter)
            item = await buffer.ghost()
            assert item and buffer.accept(item) == "x = hello_world(1)"
        assert len(fake.requests) == 1
        buffer.type("x")
        await buffer.ghost()
        assert fake.prompts == ["x = ", "x = hello_x"]


async def test_a_request_keeps_its_text_while_more_is_typed(fake: FakeServer) -> None:
    async with editor(serverUrl=fake.url, debounceMs=300) as session:
        buffer = session.open("a|")
        fake.default = "bcd"
        task = buffer.ask()
        buffer.type("b")  # no request for this: what is asked about is still "a"
        result = await task
        assert fake.prompts == ["a"]
        assert result and result.items[0].insert_text == "bcd"


async def test_a_server_that_is_down_gives_nothing_and_one_log_line() -> None:
    taken = socket.socket()  # bound, so that nobody else gets the port, but not listening
    taken.bind(("127.0.0.1", 0))
    url = f"http://127.0.0.1:{taken.getsockname()[1]}"
    with taken:
        async with editor(serverUrl=url, debounceMs=0) as session:
            buffer = session.open("x = |")
            for letter in "abc":
                buffer.type(letter)
                assert await buffer.ghost() is None
            assert len(session.log) == 1
            assert f"{url} can't be reached" in session.log[0]


async def test_trouble_is_told_once_for_each_kind_and_ends_by_itself(fake: FakeServer) -> None:
    fake.replies.extend([503, 503, 401, 429, 429, 500, {"error": "?"}, "well"])
    async with editor(serverUrl=fake.url, debounceMs=0) as session:
        buffer = session.open("|")
        answers = []
        for letter in "abcdefgh":
            buffer.type(letter)
            answers.append(await buffer.ghost(Invoked))
        assert [answer is not None for answer in answers] == [False] * 7 + [True]
        told = ["isn't ready", "wants to know who asks", "busy", "status 500", "something else", "answers again"]
        assert len(session.log) == len(told)
        assert all(part in line for part, line in zip(told, session.log, strict=True))


async def test_a_server_that_does_not_answer_in_time_is_given_up(fake: FakeServer) -> None:
    fake.default = HOLD
    async with editor(serverUrl=fake.url, timeoutMs=50) as session:
        assert await session.open("x = |").ghost() is None
        assert "in time" in session.log[0]
        await asyncio.wait_for(fake.requests[0].closed.wait(), 20)


async def test_half_an_emoji_is_sent_as_valid_text(fake: FakeServer) -> None:
    async with editor(serverUrl=fake.url) as session:
        assert await session.open("x = '\ud83d' + |").ghost()
        assert fake.prompts == ["x = '?' + "]
