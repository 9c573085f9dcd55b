"""What was suggested in a document, and what of it still fits. Pure.

A suggestion serves only where all the text around it is as it was when it was asked for: an edit anywhere else makes it
worthless, and undoing that edit makes it good again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, replace

from homespun_lsp.positions import plain_line_ends

_MAX_SUGGESTIONS = 40
_MAX_CHARS = 2_000_000
"""Of the texts they were asked in, though the newest is always kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Suggestion:
    """`completion` goes into `text` at `offset`. Empty: there is nothing to suggest."""

    text: str
    offset: int
    completion: str
    made: str | None = None
    """Id of the server's answer."""

    def at(self, text: str, offset: int) -> Suggestion | None:
        """What is left to suggest there; None when it was typed out, or something else was typed."""
        typed = typed_since(self.text, self.offset, text, offset)
        if typed is None or not self.completion.startswith(typed) or len(typed) == len(self.completion):
            return None
        return replace(self, text=text, offset=offset, completion=self.completion[len(typed) :])


def typed_since(text: str, offset: int, now: str, cursor: int) -> str | None:
    """What was put in at `offset` of `text` to make it `now`; None if anything else differs."""
    added = len(now) - len(text)
    if added < 0 or cursor != offset + added:
        return None
    # Between the two: an editor that writes \r\n has put in what we know as \n.
    same = now[:offset] == text[:offset] and now[cursor:] == text[offset:]
    return plain_line_ends(now[offset:cursor]) if same else None


class Memory:
    """The latest suggestions of one document: they come back after a backspace, an undo, or when retyped."""

    def __init__(self) -> None:
        self._suggestions: deque[Suggestion] = deque(maxlen=_MAX_SUGGESTIONS)

    def __len__(self) -> int:
        return len(self._suggestions)

    def add(self, suggestion: Suggestion) -> None:
        self._suggestions.append(suggestion)
        while len(self) > 1 and sum(len(s.text) for s in self._suggestions) > _MAX_CHARS:
            self._suggestions.popleft()

    def find(self, text: str, offset: int) -> Suggestion | None:
        """The newest that still fits. What is before somebody's eyes is never replaced by an older one."""
        newest_first: Iterable[Suggestion] = reversed(self._suggestions)
        return next((rest for s in newest_first if (rest := s.at(text, offset)) is not None), None)
