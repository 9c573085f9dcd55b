"""Watches what becomes of suggestions in the documents: accepted, dismissed, and how much of them is kept.

Ghost text has no sign of acceptance that all editors give, and none for a word or a line of it; the text itself has.
What another completion list inserts counts as accepted too, if it is what was suggested.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from homespun_lsp.context import Place
from homespun_lsp.documents import Document, Step
from homespun_lsp.edits import Span
from homespun_lsp.keeping import Keeping, Note
from homespun_lsp.offers import Offer, offer

_SEEN_S = 0.25
"""What was there for less can't have been read, so it wasn't turned down."""


class Watch:
    def __init__(
        self, note: Note, current: Callable[[str], Document | None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._note = note
        self._current = current
        self._clock = clock
        self._keeping = Keeping(note, current)
        self._offers: dict[str, Offer] = {}
        """By document."""
        self._editor_says_shown = False
        """Whether the editor tells what it shows; if not, all that it was given counts."""

    def asked(self, place: Place) -> None:
        """The cursor is there now; what was suggested elsewhere is gone."""
        found = self._offers.get(place.document.uri)
        if found and not found.is_at(place):
            self._end(place.document.uri)

    def offered(self, completion: str, place: Place, text: str) -> None:
        uri = place.document.uri
        document, before = self._current(uri), self._offers.get(uri)
        if document is None or (before and before.completion == completion):
            return
        self._offers[uri] = made = offer(completion, place, text, document.text)
        if not self._editor_says_shown:
            self._show(made)

    def told_shown(self, completion: str) -> None:
        self._editor_says_shown = True
        if uri := self._where(completion):
            self._show(self._offers[uri])

    def told_accepted(self, completion: str, characters: int) -> None:
        """By the editor; the edits usually said so before, except of a text too short to tell from typing."""
        uri = self._where(completion)
        if uri is None:
            self._note(completion, "accepted", characters)
            return
        found, document = self._offers[uri], self._current(uri)
        if document and found.is_typed_out and not found.accepted:
            whole = len(found.text)
            self._keep(uri, found, Span(max(found.num_given, whole - characters), whole), document.text)
        before, found.by_editor = found.accepted, max(found.by_editor, characters)
        if found.accepted > before or not before:
            self._note(completion, "accepted", found.accepted)

    def num_given(self, completion: str) -> int:
        uri = self._where(completion)
        return self._offers[uri].num_given if uri else 0

    def changed(self, uri: str, steps: Sequence[Step]) -> None:
        """The edits of one notification. Between them the suggestion may not fit: Neovim takes the rest of the line
        away before it puts one of several lines in."""
        for step in steps:
            self._keeping.changed(uri, step.edit)
            if uri in self._offers:
                self._follow(uri, self._offers[uri], step.text, is_last=step is steps[-1])

    def saved(self, uri: str) -> None:
        self._keeping.saved(uri)

    def closed(self, uri: str) -> None:
        self._end(uri)
        self._keeping.closed(uri)

    def close(self) -> None:
        for uri in list(self._offers):
            self._end(uri)
        self._keeping.close()

    def _where(self, completion: str) -> str | None:
        """The document it is offered in."""
        return next((uri for uri, found in self._offers.items() if found.completion == completion), None)

    def _show(self, found: Offer) -> None:
        if found.shown_at is None:
            found.shown_at = self._clock()
            self._note(found.completion, "shown", 0)

    def _end(self, uri: str) -> None:
        gone = self._offers.pop(uri, None)
        if gone is None or gone.shown_at is None or gone.accepted or gone.is_typed_out:
            return
        if self._clock() - gone.shown_at >= _SEEN_S:
            self._note(gone.completion, "dismissed", 0)

    def _follow(self, uri: str, found: Offer, text: str, *, is_last: bool) -> None:
        standing = found.standing_in(text)
        if standing is None:
            if is_last:
                self._end(uri)
        elif part := found.advance(standing):
            self._note(found.completion, "accepted", found.accepted)
            self._keep(uri, found, part, text)

    def _keep(self, uri: str, found: Offer, part: Span, text: str) -> None:
        accepted = found.text[part.start : part.end]
        self._keeping.accepted(uri, found.completion, accepted, found.place_of(part, text))
