"""Ghost text: what an editor gets for `textDocument/inlineCompletion`."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from lsprotocol import types

from tests.lsp.editor import Automatic, Editor, Invoked, editor
from tests.lsp.fake_server import FakeServer, fake_server

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared() -> AsyncIterator[tuple[FakeServer, Editor]]:
    """One session for all: starting a language server takes longer than most of these tests."""
    async with fake_server() as fake, editor(serverUrl=fake.url) as session:
        yield fake, session


@pytest.fixture
def fake(shared: tuple[FakeServer, Editor]) -> FakeServer:
    shared[0].reset()
    return shared[0]


@pytest.fixture
def session(shared: tuple[FakeServer, Editor]) -> Editor:
    return shared[1]


def chosen(text: str, line: int, start: int, end: int) -> types.SelectedCompletionInfo:
    where = types.Range(start=types.Position(line, start), end=types.Position(line, end))
    return types.SelectedCompletionInfo(range=where, text=text)


async def test_it_is_advertised_to_an_editor_that_announces_nothing(session: Editor) -> None:
    assert session.server.inline_completion_provider == types.InlineCompletionOptions()
    assert session.server.completion_provider is not None


async def test_a_suggestion_is_inserted_at_the_cursor(fake: FakeServer, session: Editor) -> None:
    fake.default = "lo, world"
    buffer = session.open("def f():\n    print('hel|')\n")
    item = await buffer.ghost()
    assert item and buffer.accept(item) == "def f():\n    print('hello, world')\n"
    assert await session.accepted(item) is None


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "utf-32"])
async def test_an_emoji_before_the_cursor_shifts_nothing(fake: FakeServer, encoding: str) -> None:
    async with editor(serverUrl=fake.url, encodings=[encoding]) as session:
        assert session.server.position_encoding == encoding
        buffer = session.open("a = '😀é' + |\n")
        buffer.encoding = encoding
        buffer.type("b😀")
        item = await buffer.ghost()
        assert fake.prompts == ["a = '😀é' + b😀"]
        assert item and buffer.accept(item) == "a = '😀é' + b😀completed\n"


async def test_edits_after_a_form_feed_land_on_the_right_line(fake: FakeServer, session: Editor) -> None:
    """pygls splits lines there; an edit below then changes a line above."""
    buffer = session.open("int a;\n\x0cint b;\u2028\x0b\x85\nint c|\n", language="c")
    buffer.type("ount")
    await buffer.ghost()
    assert fake.prompts == ["int a;\n\x0cint b;\u2028\x0b\x85\nint count"]


async def test_crlf_files_are_edited_and_completed_in_place(fake: FakeServer, session: Editor) -> None:
    fake.default = "0\n    y = 1"
    buffer = session.open("if a:\r\n    x |\r\nb\r\n")
    buffer.type("= ")
    item = await buffer.ghost()
    assert (fake.prompts, fake.requests[0].body["suffix"]) == (["if a:\n    x = "], "\nb\n")
    assert item and item.insert_text == "0\n    y = 1"
    assert buffer.accept(item) == "if a:\r\n    x = 0\n    y = 1\r\nb\r\n"


async def test_several_lines_before_a_closing_bracket_take_the_rest_of_the_line_in(
    fake: FakeServer, session: Editor
) -> None:
    """VS Code shows text of several lines only if its range ends where the line does."""
    fake.default = "\n    1,\n"
    buffer = session.open("call(|)\nnext")
    item = await buffer.ghost()
    assert item and item.range and item.range.end == types.Position(0, 6)
    assert item.insert_text == "\n    1,\n)"
    assert buffer.accept(item) == "call(\n    1,\n)\nnext"


async def test_with_the_suggestion_list_open_the_chosen_entry_is_continued(fake: FakeServer, session: Editor) -> None:
    fake.default = "(item)"
    buffer = session.open("basket.app|\n")
    item = await buffer.ghost(chosen=chosen("append", 0, 7, 10))
    assert fake.prompts == ["basket.append"]
    assert item and item.insert_text == "append(item)"
    assert item.range == types.Range(start=types.Position(0, 7), end=types.Position(0, 10))


async def test_with_the_suggestion_list_open_nothing_is_shown_that_does_not_continue_it(
    fake: FakeServer, session: Editor
) -> None:
    fake.replies.extend([""])
    buffer = session.open("basket.app|\n")
    assert await buffer.ghost(chosen=chosen("append", 0, 7, 10)) is None
    several_lines = types.Range(start=types.Position(0, 0), end=types.Position(1, 0))
    assert await buffer.ghost(chosen=types.SelectedCompletionInfo(range=several_lines, text="a\nb")) is None
    assert len(fake.requests) == 1


async def test_nothing_is_asked_in_the_middle_of_a_word_unless_by_hand(fake: FakeServer, session: Editor) -> None:
    buffer = session.open("ret|urn")
    assert await buffer.ghost(Automatic) is None
    assert fake.requests == []
    assert await buffer.ghost(Invoked)


async def test_nothing_is_an_empty_list_so_that_editors_clear_what_they_show(fake: FakeServer, session: Editor) -> None:
    fake.default = "  \n"
    result = await session.open("x = |").ask()
    assert result is not None and not result.items


async def test_a_document_that_is_not_open_gets_nothing(fake: FakeServer, session: Editor) -> None:
    buffer = session.open("x = |")
    assert await buffer.ghost()
    buffer.close()
    assert await buffer.ghost() is None
    assert len(fake.requests) == 1


async def test_the_server_is_told_path_language_and_repository(fake: FakeServer, tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "config").write_text('[remote "origin"]\n\turl = https://me:pw@example.com/t/p.git\n')
    async with editor(serverUrl=fake.url, maxTokens=9) as session:
        await session.open("x = |", tmp_path / "src" / "a.py").ghost()
        await session.open("y = |", tmp_path / "src" / "b.py").ghost()
    body, second = fake.requests[0].body, fake.requests[1].body
    assert len(client := body["homespun"].pop("client")) == 32 and second["homespun"]["client"] == client
    assert len(user := body["homespun"].pop("user")) == 32 and user != client
    assert body == {
        "prompt": "x = ",
        "suffix": "",
        "max_tokens": 9,
        "temperature": 0,
        "stop": ["\n"],
        "homespun": {"path": "src/a.py", "language": "python", "repo": "https://example.com/t/p.git"},
    }
    assert fake.requests[0].path == "/v1/completions"
