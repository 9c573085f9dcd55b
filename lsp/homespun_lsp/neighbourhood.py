"""The other open files: in which order they were used, where they were edited, and what of them is sent along."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field

from homespun_lsp.context import Place
from homespun_lsp.documents import Document, Step
from homespun_lsp.edits import Span
from homespun_lsp.pieces import Neighbour, Piece, best_pieces

Paths = Callable[[Sequence[Document]], Awaitable[dict[str, str]]]

_MAX_FILES = 8
_MAX_EDITS = 4
_MAX_PIECES = 10
"""Two or so find room in a prompt, and only where the server knows too little; all have a voice in each token there."""
_NEAR_LINES = 4
_FRESH_S = 30.0
"""With `_NEAR_LINES` as the server keeps its own snippets: other ones would void what it has computed of the prompt."""


@dataclass(slots=True)
class _Used:
    edits: list[Span] = field(default_factory=list)
    """The latest last."""
    neighbour: Neighbour | None = None
    """As it was looked at last."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Chosen:
    uri: str
    line: int
    at: float
    among: frozenset[str]
    """The files that were looked at."""
    pieces: Sequence[Piece]


class Neighbourhood:
    def __init__(self, current: Callable[[str], Document | None], clock: Callable[[], float] = time.monotonic) -> None:
        self._current = current
        self._clock = clock
        self._used: OrderedDict[str, _Used] = OrderedDict()
        """By document, the latest last."""
        self._chosen: _Chosen | None = None

    def opened(self, uri: str) -> None:
        self._used[uri] = _Used()

    def changed(self, uri: str, steps: Iterable[Step]) -> None:
        used = self._used.setdefault(uri, _Used())
        self._used.move_to_end(uri)
        for step in steps:
            used.edits = [span.after(step.edit) for span in used.edits]
            here = Span(step.edit.start, step.edit.start + len(step.edit.added))
            apart = [span for span in used.edits if span.end < here.start or span.start > here.end]
            used.edits = [*apart, here][-_MAX_EDITS:]

    def closed(self, uri: str) -> None:
        self._used.pop(uri, None)
        if self._chosen and uri in self._chosen.among | {self._chosen.uri}:
            self._chosen = None

    def choose_anew(self) -> None:
        """What may be sent along has changed."""
        self._chosen = None

    def others(self, uri: str) -> Sequence[Document]:
        """The latest first."""
        latest = [other for other in reversed(self._used) if other != uri][:_MAX_FILES]
        return [document for other in latest if (document := self._current(other))]

    async def pieces(self, place: Place, prefix: str, paths: Paths) -> Sequence[Piece]:
        """What to send along; the same while the cursor is near. `paths` says by URI which files may be used."""
        uri, line, now = place.document.uri, place.text.count("\n", 0, place.offset), self._clock()
        chosen = self._chosen
        is_near = chosen and chosen.uri == uri and abs(chosen.line - line) <= _NEAR_LINES and now - chosen.at < _FRESH_S
        if chosen is None or not is_near:
            allowed = await paths(self.others(uri))
            found = best_pieces(self._neighbours(uri, allowed), prefix, _MAX_PIECES)
            chosen = self._chosen = _Chosen(uri=uri, line=line, at=now, among=frozenset(allowed), pieces=found)
        return chosen.pieces

    def _neighbours(self, uri: str, paths: dict[str, str]) -> Iterable[Neighbour]:
        for other in self.others(uri):
            if path := paths.get(other.uri):
                used = self._used[other.uri]
                edited_at = tuple(span.start for span in used.edits)
                now = Neighbour(path=path, text=other.text, edited_at=edited_at)
                used.neighbour = used.neighbour if used.neighbour == now else now
                yield used.neighbour
