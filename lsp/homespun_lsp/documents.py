"""The open documents, as immutable snapshots: a request keeps its text, whatever is typed meanwhile."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from lsprotocol import types

from homespun_lsp.edits import Edit, between
from homespun_lsp.positions import Encoding, LineIndex, Position

_MANY = 50
"""Changes in one notification that are no longer somebody's keys, but all of a search's hits replaced: thousands."""


@dataclass(frozen=True, kw_only=True)
class Document:
    uri: str
    language: str
    version: int
    text: str
    encoding: Encoding
    """In which the editor counts characters."""

    @cached_property
    def lines(self) -> LineIndex:
        return LineIndex(self.text)

    def offset_at(self, position: types.Position) -> int:
        return self.lines.offset(Position(position.line, position.character), self.encoding)

    def position_at(self, offset: int) -> types.Position:
        line, character = self.lines.position(offset, self.encoding)
        return types.Position(line=line, character=character)

    def range_at(self, start: int, end: int) -> types.Range:
        return types.Range(start=self.position_at(start), end=self.position_at(end))

    def line_end_after(self, offset: int) -> int:
        """Where the line that holds `offset` ends, its terminator excluded."""
        return self.lines.line_end(self.lines.position(offset, "utf-32").line)

    def edit_of(self, change: types.TextDocumentContentChangeEvent) -> Edit:
        if isinstance(change, types.TextDocumentContentChangeWholeDocument):
            return between(self.text, change.text)
        start = self.offset_at(change.range.start)
        return Edit(start=start, end=max(start, self.offset_at(change.range.end)), added=change.text)

    def edited(self, edit: Edit) -> Document:
        return replace(self, text=self.text[: edit.start] + edit.added + self.text[edit.end :])


@dataclass(frozen=True, slots=True)
class Step:
    """One edit, and the text after it."""

    edit: Edit
    text: str


class Documents:
    def __init__(self) -> None:
        self.encoding: Encoding = "utf-16"
        """The protocol's default, until the editor has said which it uses."""
        self._open: dict[str, Document] = {}

    def get(self, uri: str) -> Document | None:
        return self._open.get(uri)

    def open(self, item: types.TextDocumentItem) -> None:
        self._open[item.uri] = Document(
            uri=item.uri, language=item.language_id, version=item.version, text=item.text, encoding=self.encoding
        )

    def change(self, uri: str, version: int, changes: Sequence[types.TextDocumentContentChangeEvent]) -> Sequence[Step]:
        """Changes apply one after the other, each to the result of the one before."""
        document = self._open.get(uri)
        if document is None:
            return ()
        steps = list(_steps(document, changes)) if len(changes) <= _MANY else [_one_step(document, changes)]
        self._open[uri] = replace(document, version=version, text=steps[-1].text if steps else document.text)
        return steps

    def close(self, uri: str) -> None:
        self._open.pop(uri, None)


def _steps(document: Document, changes: Sequence[types.TextDocumentContentChangeEvent]) -> Iterator[Step]:
    for change in changes:
        edit = document.edit_of(change)
        document = document.edited(edit)
        yield Step(edit, document.text)


def _one_step(document: Document, changes: Sequence[types.TextDocumentContentChangeEvent]) -> Step:
    after = _from_the_end(document, changes)
    if after is None:
        for step in _steps(document, changes):
            after = step.text
    assert after is not None
    return Step(between(document.text, after), after)


def _from_the_end(document: Document, changes: Sequence[types.TextDocumentContentChangeEvent]) -> str | None:
    """The text after changes that go from the end of the document to its start, as VS Code sends them: none moves the
    places of those that follow, so the text is cut up once. None when they don't."""
    rest, pieces = len(document.text), list[str]()
    for change in changes:
        if isinstance(change, types.TextDocumentContentChangeWholeDocument):
            return None
        edit = document.edit_of(change)
        ends = (change.range.start, edit.start), (change.range.end, edit.end)
        if edit.end > rest or any(document.position_at(offset) != position for position, offset in ends):
            return None
        pieces += document.text[edit.end : rest], edit.added
        rest = edit.start
    return document.text[:rest] + "".join(reversed(pieces))
