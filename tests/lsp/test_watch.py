"""What the edits of a document say became of a suggestion."""

import asyncio
from collections.abc import Callable

import pytest
from lsprotocol import types

from homespun_lsp import keeping
from homespun_lsp.context import Place
from homespun_lsp.documents import Document, Documents
from homespun_lsp.watch import Watch

URI = "file:///a.py"


class Session:
    """One document with one suggestion, the text given with the cursor as `|`."""

    def __init__(self, marked: str, suggestion: str = "total + tax", chosen: tuple[str, int] = ("", 0)) -> None:
        """`chosen` is the entry of the editor's list, and how much of it has been typed."""
        self.noted: list[tuple[str, int]] = []
        self.now = 0.0
        self.documents = Documents()
        self.documents.encoding = "utf-32"
        self.watch = Watch(self._note, self.documents.get, lambda: self.now)
        before, _, after = marked.partition("|")
        self.at = len(before)
        item = types.TextDocumentItem(uri=URI, language_id="python", version=1, text=before + after)
        self.documents.open(item)
        self.watch.offered("c1", self.place(*chosen), suggestion)

    @property
    def document(self) -> Document:
        document = self.documents.get(URI)
        assert document
        return document

    def place(self, chosen: str = "", typed: int = 0) -> Place:
        text, start = self.document.text, self.at - typed
        whole = text[:start] + chosen + text[self.at :]
        return Place(document=self.document, text=whole, offset=start + len(chosen), num_chosen=len(chosen))

    def put(self, added: str, remove: int = 0) -> None:
        """One change that takes the `remove` characters before the cursor away."""
        where = self.document.range_at(self.at - remove, self.at)
        self.notify(types.TextDocumentContentChangePartial(range=where, text=added))
        self.at += len(added) - remove

    def type(self, text: str) -> None:
        for letter in text:
            self.put(letter)

    def notify(self, *changes: types.TextDocumentContentChangeEvent) -> None:
        self.watch.changed(URI, self.documents.change(URI, 2, changes))

    def _note(self, completion: str, kind: str, characters: int) -> None:
        self.noted.append((kind, characters))

    @property
    def told(self) -> list[tuple[str, int]]:
        """After what is said first of all."""
        assert self.noted[0] == ("shown", 0)
        return self.noted[1:]


async def test_all_of_it_put_in_at_once_is_accepted() -> None:
    session = Session("x = |\n")
    session.put("total + tax")
    assert session.told == [("accepted", 11)]


async def test_word_by_word_is_accepted_in_parts_and_counted_together() -> None:
    session = Session("x = |\n")
    session.put("total")
    session.type(" +")
    session.put(" tax")
    assert session.told == [("accepted", 5), ("accepted", 9)]


async def test_what_is_left_after_typing_some_of_it_can_be_accepted() -> None:
    session = Session("x = |\n")
    session.type("tot")
    session.put("al + tax")
    assert session.told == [("accepted", 8)]


async def test_typing_the_same_characters_is_neither_accepting_nor_dismissing() -> None:
    session = Session("x = |\n", "f(a)\n    y")
    session.now = 9
    for added in ("f", "(a", ")", "\n    ", "y"):
        session.put(added)
    session.type("!")
    assert session.told == []


async def test_letters_typed_fast_come_together_and_are_still_typed() -> None:
    """Neovim gathers changes for 150 ms."""
    session = Session("|")
    here = [types.Position(0, column) for column in range(5)]
    typed = zip(here, "total", strict=True)
    session.notify(*(types.TextDocumentContentChangePartial(range=types.Range(at, at), text=c) for at, c in typed))
    assert session.document.text == "total" and session.told == []


async def test_an_editor_that_sends_whole_documents_is_understood() -> None:
    session = Session("x = |\n")
    session.notify(types.TextDocumentContentChangeWholeDocument(text="x = t\n"))
    assert session.told == []
    session.notify(types.TextDocumentContentChangeWholeDocument(text="x = total + tax\n"))
    assert session.told == [("accepted", 10)]


async def test_an_entry_of_the_menu_that_replaces_the_word_is_accepted() -> None:
    session = Session("x = tot|\n", "al + tax")
    session.put("total + tax", remove=3)
    assert session.told == [("accepted", 8)]


async def test_of_a_chosen_entry_only_what_we_added_counts() -> None:
    session = Session("basket.app|\n", "(item)", chosen=("append", 3))
    session.put("append(item)", remove=3)
    assert session.told == [("accepted", 6)]
    untouched = Session("basket.app|\n", "(item)", chosen=("append", 3))
    untouched.put("append", remove=3)
    assert untouched.told == []


async def test_accepted_in_two_edits_as_neovim_does_is_accepted() -> None:
    session = Session("call(|)\n", "\n    first,\n")
    session.now = 9
    start, end = types.Position(0, 5), types.Position(0, 6)
    session.notify(
        types.TextDocumentContentChangePartial(range=types.Range(start, end), text=""),
        types.TextDocumentContentChangePartial(range=types.Range(start, start), text="\n    first,\n)"),
    )
    assert session.told == [("accepted", 12)]


async def test_windows_line_ends_count_once() -> None:
    session = Session("if a:\r\n    x|\r\n", "(1)\n    y(2)")
    session.put("(1)\r\n    y(2)")
    session.watch.saved(URI)
    assert session.told == [("accepted", 12), ("saved", 12)]


async def test_undone_and_redone_is_accepted_once() -> None:
    session = Session("x = |\n")
    session.put("total + tax")
    session.put("", remove=11)
    session.put("total + tax")
    session.watch.saved(URI)
    assert session.told == [("accepted", 11), ("saved", 11)]


@pytest.mark.parametrize("is_first", [True, False])
async def test_the_editors_word_and_the_edit_are_one_acceptance(is_first: bool) -> None:
    session = Session("x = |\n")
    if is_first:
        session.watch.told_accepted("c1", 11)
    session.put("total + tax")
    if not is_first:
        session.watch.told_accepted("c1", 11)
    assert {kind for kind, _ in session.told} == {"accepted"} and session.told[-1] == ("accepted", 11)


async def test_the_editors_word_counts_where_the_edit_cannot_be_read() -> None:
    """It came together with others."""
    session = Session("x = |\n")
    session.notify(types.TextDocumentContentChangeWholeDocument(text="import tax\nx = total + tax\n"))
    session.watch.told_accepted("c1", 11)
    assert session.told == [("accepted", 11)]


async def test_a_short_one_counts_by_the_editors_word_and_is_followed() -> None:
    session = Session("f(|\n", "x)")
    session.put("x)")
    assert session.told == []
    session.watch.told_accepted("c1", 2)
    session.put("", remove=1)
    session.watch.saved(URI)
    assert session.told == [("accepted", 2), ("saved", 1)]


LEFT: dict[str, Callable[[Session], None]] = {
    "overtaken": lambda session: session.type("z"),
    "partly typed, then overtaken": lambda session: session.type("toz"),
    "something above changed": lambda session: session.notify(types.TextDocumentContentChangeWholeDocument(text="")),
    "moved away": lambda session: session.watch.asked(
        Place(document=session.document, text=session.document.text, offset=0)
    ),
    "closed": lambda session: session.watch.closed(URI),
    "the editor ends": lambda session: session.watch.close(),
}


@pytest.mark.parametrize("leave", LEFT.values(), ids=LEFT)
@pytest.mark.parametrize(("seen_s", "told"), [(0.24, []), (0.25, [("dismissed", 0)])])
async def test_what_was_seen_and_left_is_dismissed(
    leave: Callable[[Session], None], seen_s: float, told: list[tuple[str, int]]
) -> None:
    session = Session("x = |\n")
    session.now = seen_s
    leave(session)
    assert session.told == told


async def test_what_was_accepted_is_never_dismissed() -> None:
    session = Session("x = |\n")
    session.put("total")
    session.now = 9
    session.type("z")
    session.watch.closed(URI)
    assert session.told == [("accepted", 5)]


async def test_asking_where_the_suggestion_stands_does_not_end_it() -> None:
    session = Session("x = |\n")
    session.now = 9
    session.type("to")
    session.watch.asked(session.place())
    session.watch.offered("c1", session.place(), "tal + tax")
    session.put("tal + tax")
    assert session.told == [("accepted", 9)]


async def test_an_editor_that_says_what_it_shows_is_believed() -> None:
    session = Session("x = |\n")
    session.watch.told_shown("c1")
    session.watch.offered("c2", session.place(), "tax")
    session.now = 9
    session.type("z")
    assert session.told == []
    session.watch.offered("c3", session.place(), "tax")
    session.watch.told_shown("c3")
    session.now = 10
    session.type("z")
    assert session.told == [("shown", 0), ("dismissed", 0)]


async def _half_a_minute(monkeypatch: pytest.MonkeyPatch, session: Session, edit: Callable[[], None]) -> None:
    monkeypatch.setattr(keeping, "KEPT_AFTER_S", 0.0)
    session.put("total + tax")
    edit()
    for _ in range(3):
        await asyncio.sleep(0)


@pytest.mark.parametrize(
    ("edit", "kept"),
    [
        (lambda session: None, 11),
        (lambda session: session.type(" * 2"), 11),
        (lambda session: session.put("", remove=3), 7),
        (lambda session: session.put("", remove=11), 0),
    ],
)
async def test_half_a_minute_later_what_still_stands_is_told(
    monkeypatch: pytest.MonkeyPatch, edit: Callable[[Session], None], kept: int
) -> None:
    session = Session("x = |\n")
    await _half_a_minute(monkeypatch, session, lambda: edit(session))
    assert session.told == [("accepted", 11), ("kept", kept)]


@pytest.mark.parametrize("close", [lambda s: s.watch.closed(URI), lambda s: s.watch.close()])
async def test_of_a_closed_document_nothing_is_told(
    monkeypatch: pytest.MonkeyPatch, close: Callable[[Session], None]
) -> None:
    session = Session("x = |\n")
    await _half_a_minute(monkeypatch, session, lambda: close(session))
    assert session.told == [("accepted", 11)]


async def test_what_is_saved_is_told_once() -> None:
    session = Session("x = |\n")
    session.put("total + tax")
    session.put("", remove=3)
    session.watch.saved(URI)
    session.put("", remove=8)
    session.watch.saved(URI)
    assert session.told == [("accepted", 11), ("saved", 7)]


async def test_only_so_many_are_followed_in_a_document() -> None:
    session = Session("|", "total")
    for number in range(60):
        session.watch.offered(f"d{number}", session.place(), "total")
        session.put("total")
    session.watch.saved(URI)
    assert len([kind for kind, _ in session.noted if kind == "saved"]) == 50
