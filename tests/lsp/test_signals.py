"""What the server is told of its suggestions."""

import asyncio
from collections.abc import Mapping, Sequence

import pytest

from homespun_lsp import signals
from homespun_lsp.signals import Signals
from tests.lsp.editor import Buffer, Editor, editor
from tests.lsp.fake_server import FakeServer

CODE = "completed(now)"
REPLY = {"id": "cmpl-7", "choices": [{"index": 0, "text": CODE, "finish_reason": "stop"}]}

Events = list[tuple[str, str, int]]


def told(fake: FakeServer) -> Events:
    bodies = [request.body for request in fake.requests if request.path == "/v1/homespun/events"]
    assert CODE not in str(bodies)
    return [(e["completion"], e["kind"], e["characters"]) for body in bodies for e in body["events"]]


async def shown(session: Editor) -> Buffer:
    buffer = session.open("x = |\n")
    assert await buffer.ghost()
    return buffer


async def test_what_was_shown_and_accepted_is_told_in_one_batch_without_code(fake: FakeServer) -> None:
    fake.default = REPLY
    async with editor(serverUrl=fake.url, debounceMs=0) as session:
        buffer = session.open("x = |\n")
        item = await buffer.ghost()
        assert item
        buffer.insert(item)
        await session.accepted(item)
        await fake.arrived(2)
    assert told(fake) == [("cmpl-7", "shown", 0), ("cmpl-7", "accepted", len(CODE))]


async def test_what_edits_and_a_save_say_is_told_without_a_command(fake: FakeServer) -> None:
    """As after accepting a word in VS Code."""
    fake.default = REPLY
    async with editor(serverUrl=fake.url, debounceMs=0) as session:
        assert session.server.text_document_sync.save  # type: ignore[union-attr]  # we announce options
        buffer = await shown(session)
        buffer.type("completed")
        buffer.delete(2)
        buffer.save()
    assert told(fake) == [("cmpl-7", "shown", 0), ("cmpl-7", "accepted", 9), ("cmpl-7", "saved", 0)]


async def test_what_was_seen_and_overtaken_is_told_as_dismissed(fake: FakeServer) -> None:
    fake.default = REPLY
    async with editor(serverUrl=fake.url, debounceMs=0) as session:
        buffer = await shown(session)
        await fake.arrived(2)  # more than the quarter of a second that somebody needs to see it
        buffer.close()
    assert told(fake) == [("cmpl-7", "shown", 0), ("cmpl-7", "dismissed", 0)]


async def test_copilots_notifications_are_understood(fake: FakeServer) -> None:
    """Lengths are in UTF-16 code units."""
    fake.default = REPLY | {"choices": [{"index": 0, "text": "'😀' + b"}]}
    async with editor(serverUrl=fake.url, debounceMs=0) as session:
        buffer = session.open("x = |\n")
        assert await buffer.ghost()
        item = {"insertText": "'😀' + b", "command": {"command": "homespun.accepted", "arguments": ["cmpl-7", 7]}}
        for method, params in {
            "textDocument/didShowCompletion": {"item": item},
            "textDocument/didPartiallyAcceptCompletion": {"item": item, "acceptedLength": 4},
        }.items():
            session.client.protocol.notify(method, params)
            session.client.protocol.notify(method, {"item": {"command": 5}, "acceptedLength": "x"})
    assert told(fake) == [("cmpl-7", "shown", 0), ("cmpl-7", "accepted", 3)]


async def test_nothing_is_told_when_events_are_off(fake: FakeServer) -> None:
    fake.default = REPLY
    async with editor(serverUrl=fake.url, debounceMs=0, sendEvents=False) as session:
        buffer = session.open("x = |\n")
        item = await buffer.ghost()
        assert item
        buffer.insert(item)
        await session.accepted(item)
    assert [request.path for request in fake.requests] == ["/v1/completions"]


@pytest.mark.parametrize("there", [False, True])
async def test_a_folder_may_say_whether_its_server_is_told(fake: FakeServer, there: bool) -> None:
    fake.replies.extend([REPLY | {"id": "cmpl-there"}, REPLY | {"id": "cmpl-elsewhere"}])
    rules = {"/there": {"sendEvents": there}}
    async with editor(serverUrl=fake.url, debounceMs=0, sendEvents=not there, servers=rules) as session:
        for path in ("/there/a.py", "/elsewhere/a.py"):
            buffer = session.open("x = |\n", path)
            item = await buffer.ghost()
            assert item and item.command
            assert bool(item.command.arguments) == (there == path.startswith("/there"))
            buffer.insert(item)
            await session.accepted(item)
            buffer.save()
    told_of = "cmpl-there" if there else "cmpl-elsewhere"
    assert told(fake) == [(told_of, "shown", 0), (told_of, "accepted", len(CODE)), (told_of, "saved", len(CODE))]


async def test_what_waits_when_a_folder_turns_events_off_is_dropped(fake: FakeServer) -> None:
    fake.default = REPLY
    async with editor(serverUrl=fake.url, debounceMs=0) as session:
        buffer = session.open("x = |\n", "/quiet/a.py")
        item = await buffer.ghost()
        assert item
        session.configure({"homespun": {"servers": {"/quiet": {"sendEvents": False}}}})
        buffer.insert(item)
        await session.accepted(item)
    assert told(fake) == []


async def test_what_waits_when_events_are_turned_off_is_dropped(fake: FakeServer) -> None:
    fake.replies.extend([REPLY, 503])
    async with editor(serverUrl=fake.url, debounceMs=0) as session:
        await shown(session)
        await fake.arrived(2)
        session.configure({"homespun": {"sendEvents": False}})
    assert told(fake) == [("cmpl-7", "shown", 0)]


class Line:
    """To a server that can be away."""

    def __init__(self) -> None:
        self.is_up = True
        self.sent: list[Events] = []
        self.attempted = asyncio.Event()

    async def send(self, events: Sequence[Mapping[str, object]]) -> bool:
        self.sent.append([(str(e["completion"]), str(e["kind"]), int(str(e["characters"]))) for e in events])
        self.attempted.set()
        return self.is_up


async def test_what_could_not_be_told_is_told_later(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signals, "_GATHER_S", 0.0)
    monkeypatch.setattr(signals, "_RETRY_S", 0.0)
    line = Line()
    line.is_up = False
    kept = Signals(line.send)
    kept.note("c1", "shown")
    await line.attempted.wait()
    line.is_up = True
    kept.note("c1", "accepted", 5)
    kept.note("c1", "accepted", 9)
    kept.note("c1", "accepted", 7)
    await kept.close()
    assert line.sent == [[("c1", "shown", 0)], [("c1", "shown", 0), ("c1", "accepted", 9)]]
    await kept.close()
    assert len(line.sent) == 2


async def test_of_too_many_the_oldest_are_dropped() -> None:
    line = Line()
    kept = Signals(line.send)
    for number in range(300):
        kept.note(f"c{number}", "shown")
    await kept.close()
    assert [len(batch) for batch in line.sent] == [200] and line.sent[0][-1] == ("c299", "shown", 0)


async def test_a_server_that_does_not_answer_keeps_no_editor_from_closing(monkeypatch: pytest.MonkeyPatch) -> None:
    async def never(events: Sequence[Mapping[str, object]]) -> bool:
        await asyncio.Event().wait()
        return True

    monkeypatch.setattr(signals, "_FAREWELL_S", 0.01)
    kept = Signals(never)
    kept.note("c1", "shown")
    await kept.close()


@pytest.mark.parametrize(("answer", "num_sent"), [(503, 2), (404, 1)])
async def test_only_a_server_that_is_not_ready_is_told_again(fake: FakeServer, answer: int, num_sent: int) -> None:
    fake.replies.extend([REPLY, answer])
    async with editor(serverUrl=fake.url, debounceMs=0) as session:
        await shown(session)
        await fake.arrived(2)
    assert [kind for _, kind, _ in told(fake)].count("shown") == num_sent
