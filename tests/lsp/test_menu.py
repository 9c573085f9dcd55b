"""Entries in the completion menu, for editors without ghost text."""

import pytest
from lsprotocol import types

from tests.lsp.editor import GHOST, MENU, editor
from tests.lsp.fake_server import HOLD, FakeServer

PATIENT = 60_000
"""A deadline that a busy machine doesn't miss."""


async def test_the_entry_covers_the_word_before_the_cursor(fake: FakeServer) -> None:
    fake.default = "nd(item)\n    return self"
    async with editor(serverUrl=fake.url, capabilities=MENU, completionDeadlineMs=PATIENT) as session:
        found = await session.open("😀.appe|)").menu()
    (item,) = found.items
    text = "append(item)\n    return self"
    assert found.is_incomplete
    assert (item.label, item.filter_text, item.sort_text, item.preselect) == ("append(item)", "appe", "!", True)
    where = types.Range(start=types.Position(0, 3), end=types.Position(0, 7))
    assert item.text_edit == types.TextEdit(range=where, new_text=text)
    assert item.documentation == types.MarkupContent(types.MarkupKind.Markdown, f"```python\n{text}\n```")
    assert item.command and item.command.command == "homespun.accepted"


async def test_at_the_deadline_the_menu_is_empty_and_the_next_keystroke_has_the_answer(fake: FakeServer) -> None:
    fake.replies.append(HOLD)
    async with editor(serverUrl=fake.url, completionDeadlineMs=1, debounceMs=0) as session:
        buffer = session.open("a|")
        found = await buffer.menu()
        assert not found.items and found.is_incomplete
        (await fake.arrived(1)).reply.set_result("bcd")
        while not (await buffer.menu()).items:
            pass
        buffer.type("b")
        assert (await buffer.menu()).items[0].label == "abcd"
        assert len(fake.requests) == 1


@pytest.mark.parametrize(("completion", "offered"), [("auto", False), ("on", True), ("off", False)])
async def test_an_editor_with_ghost_text_is_not_shown_everything_twice(
    fake: FakeServer, completion: str, offered: bool
) -> None:
    async with editor(
        serverUrl=fake.url, capabilities=GHOST, completion=completion, completionDeadlineMs=PATIENT
    ) as session:
        found = await session.open("x = |").menu()
        assert bool(found.items) is offered
        assert len(fake.requests) == offered
