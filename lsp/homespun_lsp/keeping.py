"""Follows accepted text through later edits, and tells how much is kept: after half a minute and when it is saved."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from homespun_lsp.documents import Document
from homespun_lsp.edits import Edit, Span
from homespun_lsp.kept import kept_characters
from homespun_lsp.positions import plain_line_ends

Note = Callable[[str, str, int], None]
"""Completion, kind of event, characters."""

KEPT_AFTER_S = 30.0
_MAX_FOLLOWED = 50
"""Completions in one document."""


@dataclass(slots=True)
class _Piece:
    text: str
    span: Span


@dataclass(slots=True)
class _Accepted:
    """What was accepted of one completion, word by word or at once."""

    pieces: list[_Piece] = field(default_factory=list)
    timer: asyncio.TimerHandle | None = None
    to_tell: set[str] = field(default_factory=lambda: {"kept", "saved"})

    def stop(self) -> None:
        if self.timer is not None:
            self.timer.cancel()


class Keeping:
    def __init__(self, note: Note, current: Callable[[str], Document | None]) -> None:
        self._note = note
        self._current = current
        self._accepted: dict[str, dict[str, _Accepted]] = {}
        """By document and completion, oldest first."""

    def accepted(self, uri: str, completion: str, text: str, span: Span) -> None:
        here = self._accepted.setdefault(uri, {})
        found = here.setdefault(completion, _Accepted())
        found.pieces.append(_Piece(text, span))
        found.stop()
        found.timer = asyncio.get_running_loop().call_later(KEPT_AFTER_S, self._look, uri, completion, "kept")
        if len(here) > _MAX_FOLLOWED:
            here.pop(next(iter(here))).stop()

    def changed(self, uri: str, edit: Edit) -> None:
        for found in self._accepted.get(uri, {}).values():
            for piece in found.pieces:
                piece.span = piece.span.after(edit)

    def saved(self, uri: str) -> None:
        for completion in list(self._accepted.get(uri, {})):
            self._look(uri, completion, "saved")

    def closed(self, uri: str) -> None:
        """What is done to it from now on isn't seen."""
        for found in self._accepted.pop(uri, {}).values():
            found.stop()

    def close(self) -> None:
        for uri in list(self._accepted):
            self.closed(uri)

    def _look(self, uri: str, completion: str, kind: str) -> None:
        here, document = self._accepted[uri], self._current(uri)
        found = here[completion]
        if document is None or kind not in found.to_tell:
            return
        self._note(completion, kind, sum(_kept(piece, document.text) for piece in found.pieces))
        found.to_tell.discard(kind)
        if not found.to_tell:
            del here[completion]


def _kept(piece: _Piece, text: str) -> int:
    return kept_characters(piece.text, plain_line_ends(text[piece.span.start : piece.span.end]))
