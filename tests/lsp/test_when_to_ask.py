"""What is asked and what isn't, with a real process: options, files, prefetch, several lines."""

import asyncio
from pathlib import Path

import pytest

from tests.lsp.editor import Buffer, Invoked, editor
from tests.lsp.fake_server import HOLD, FakeServer


async def _told(capfd: pytest.CaptureFixture[str], words: str) -> None:
    """Waits until the process has logged that."""
    told = ""
    async with asyncio.timeout(20):
        while words not in told:
            told += capfd.readouterr().err
            await asyncio.sleep(0.01)


async def asked(buffer: Buffer, fake: FakeServer) -> bool:
    before = len(fake.requests)
    await buffer.ghost()
    return len(fake.requests) > before


async def test_secrets_and_ignored_files_are_never_sent(fake: FakeServer, tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()
    (tmp_path / ".gitignore").write_text("*.tmp\n")
    (tmp_path / ".homespunignore").write_text("legal/\n")
    async with editor(serverUrl=fake.url) as session:
        for name in (".env", "deploy.pem", "notes.tmp", "legal/a.py"):
            buffer = session.open("x = |", tmp_path / name)
            assert await buffer.ghost() is None and await buffer.ghost(Invoked) is None
        assert fake.requests == []
        session.configure({"homespun": {"ignoredFiles": True}})
        assert await asked(session.open("x = |", tmp_path / "other.tmp"), fake)
        assert not await asked(session.open("x = |", tmp_path / "legal" / "b.py"), fake)


async def test_a_language_can_be_turned_off_and_on_while_running(fake: FakeServer) -> None:
    async with editor(serverUrl=fake.url, languages={"markdown": False}) as session:
        text = session.open("x = |", "/a.md", "markdown")
        assert not await asked(text, fake) and await asked(session.open("x = |"), fake)
        assert await text.ghost(Invoked), "by hand one may"
        session.configure({"homespun": {"languages": {"markdown": True, "*": False}}})
        assert await asked(session.open("x = |", "/b.md", "markdown"), fake)
        assert not await asked(session.open("y = |"), fake)
        session.configure({"homespun": {"languages": {"python": "yes"}}})
        assert "has a value that is not true or false" in (await session.logged(1))[0]


@pytest.mark.parametrize(
    ("multi_line", "marked", "stop"),
    [
        ("auto", "def f():|\n", None),
        ("auto", "def f():\n    x = |\n", ["\n"]),
        ("never", "def f():|\n", ["\n"]),
        ("always", "def f():\n    x = |\n", None),
    ],
)
async def test_the_rest_of_the_line_is_asked_for_unless_a_block_begins(
    fake: FakeServer, multi_line: str, marked: str, stop: list[str] | None
) -> None:
    async with editor(serverUrl=fake.url, multiLine=multi_line) as session:
        await session.open(marked).ghost()
    assert fake.requests[0].body.get("stop") == stop
    assert fake.requests[0].body["max_tokens"] == (64 if stop is None else 32)


async def test_after_an_accept_the_next_suggestion_is_there_already(
    fake: FakeServer, capfd: pytest.CaptureFixture[str]
) -> None:
    fake.replies.extend(["foo(", "1)"])
    async with editor(environ={"HOMESPUN_LOG_LEVEL": "debug"}, serverUrl=fake.url, prefetch=True) as session:
        buffer = session.open("x = |\n")
        item = await buffer.ghost()
        assert item
        ahead = await fake.arrived(2)
        assert (ahead.body["prompt"], ahead.body["homespun"]["trigger"]) == ("x = foo(", "ahead")
        await _told(capfd, "2 suggested")  # an answer on its way for longer than usual is not waited for
        buffer.insert(item)
        then = await buffer.ghost()
        assert then and then.insert_text == "1)"
    assert fake.prompts == ["x = ", "x = foo("]


async def test_looking_ahead_is_given_up_for_what_is_typed(fake: FakeServer) -> None:
    fake.replies.extend(["foo(", HOLD])
    async with editor(serverUrl=fake.url, prefetch=True, debounceMs=0) as session:
        buffer = session.open("x = |\n")
        assert await buffer.ghost()
        ahead = await fake.arrived(2)
        buffer.type("b")
        assert await buffer.ghost()
        assert fake.prompts[2] == "x = b"
        await ahead.closed.wait()
    assert not fake.overlapped


async def test_a_suggestion_stays_where_none_would_be_asked_for(fake: FakeServer) -> None:
    """Otherwise it would vanish at each bracket that is typed along."""
    fake.default = "f(1)\n    g(2)"
    async with editor(serverUrl=fake.url) as session:
        buffer = session.open("if a:\n    |\n")
        assert await buffer.ghost()
        for letter in "f(1)":
            buffer.type(letter)
            item = await buffer.ghost()
            assert item and buffer.accept(item) == "if a:\n    f(1)\n    g(2)\n"
    assert len(fake.requests) == 1


async def test_nothing_is_asked_while_several_cursors_type(fake: FakeServer) -> None:
    async with editor(serverUrl=fake.url) as session:
        buffer = session.open("x = |\ny = \n")
        buffer.type_at_line_ends("a", lines=(1, 0))
        assert not await asked(buffer, fake)
        buffer.type("b")
        assert await asked(buffer, fake)


async def test_why_nothing_is_asked_stands_in_the_log(fake: FakeServer, capfd: pytest.CaptureFixture[str]) -> None:
    async with editor(environ={"HOMESPUN_LOG_LEVEL": "debug"}, serverUrl=fake.url) as session:
        await session.open("ret|urn").ghost()
        await session.open("f()|").ghost()
        await session.open("x = |").ghost()
    told = capfd.readouterr().err
    assert "not asked: middle of a word" in told
    assert "in all: " in told and "after a closer 1" in told and "asked: typed 1" in told
