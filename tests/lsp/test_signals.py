"""What the server is told of its suggestions."""

from tests.lsp.editor import editor
from tests.lsp.fake_server import FakeServer

CODE = "completed"
REPLY = {"id": "cmpl-7", "choices": [{"index": 0, "text": CODE, "finish_reason": "stop"}]}


async def test_what_was_shown_and_accepted_is_told_in_one_batch_without_code(fake: FakeServer) -> None:
    fake.default = REPLY
    async with editor(serverUrl=fake.url, debounceMs=0) as session:
        item = await session.open("x = |\n").ghost()
        assert item
        await session.accepted(item)
        told = await fake.arrived(2)
    assert told.path == "/v1/homespun/events"
    events = [(e["completion"], e["kind"], e["characters"]) for e in told.body["events"]]
    assert events == [("cmpl-7", "shown", 0), ("cmpl-7", "accepted", len(CODE))]
    assert CODE not in str(told.body)


async def test_nothing_is_told_when_events_are_off(fake: FakeServer) -> None:
    fake.default = REPLY
    async with editor(serverUrl=fake.url, debounceMs=0, sendEvents=False) as session:
        item = await session.open("x = |\n").ghost()
        assert item
        await session.accepted(item)
    assert [request.path for request in fake.requests] == ["/v1/completions"]
