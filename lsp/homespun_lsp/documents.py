"""The open documents, as immutable snapshots: a request keeps its text, whatever is typed meanwhile."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from lsprotocol import types

from homespun_lsp.edits import Edit, between
from homespun_lsp.positions import Encoding, LineIndex, Position


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

    def change(self, uri: str, version: int, changes: Iterable[types.TextDocumentContentChangeEvent]) -> Sequence[Step]:
        """Changes apply one after the other, each to the result of the one before."""
        document = self._open.get(uri)
        if document is None:
            return ()
        steps = []
        for change in changes:
            edit = document.edit_of(change)
            document = document.edited(edit)
            steps.append(Step(edit, document.text))
        self._open[uri] = replace(document, version=version)
        return steps

    def close(self, uri: str) -> None:
        self._open.pop(uri, None)
