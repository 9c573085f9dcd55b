"""One suggestion before somebody's eyes, and what the text says became of it. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from homespun_lsp.context import Place
from homespun_lsp.edits import Span
from homespun_lsp.positions import plain_line_ends

_TYPED_AT_ONCE = 2
"""Characters that one change of somebody typing brings at most: a letter, or a bracket with its closing one. Blanks
don't count, since editors indent new lines by themselves."""


@dataclass(slots=True, kw_only=True)
class Offer:
    completion: str
    """Id of the completion in the server's answer."""
    head: str
    tail: str
    text: str
    """What would stand between head and tail if all of it were accepted."""
    num_given: int
    """Characters at the start of `text` that aren't ours: the entry chosen in the editor's list."""
    standing: int = 0
    """Characters of `text` that are in the document."""
    accepted_up_to: int = 0
    """In `text`; what comes back up to here was undone and redone."""
    by_edits: int = 0
    """Characters accepted, as the edits say."""
    by_editor: int = 0
    """Characters accepted, as the editor says."""
    shown_at: float | None = None

    @property
    def accepted(self) -> int:
        return max(self.by_edits, self.by_editor)

    @property
    def is_typed_out(self) -> bool:
        return self.standing == len(self.text)

    def standing_in(self, text: str) -> int | None:
        """How many characters of the offer are in the document now; None once anything else differs."""
        room = len(text) - len(self.head) - len(self.tail)
        if room < 0 or not (text.startswith(self.head) and text.endswith(self.tail)):
            return None
        between = plain_line_ends(text[len(self.head) : len(self.head) + room])
        return len(between) if self.text.startswith(between) else None

    def is_at(self, place: Place) -> bool:
        """Whether the cursor is where the offer goes on."""
        return self.standing_in(place.text) is not None and place.text[place.offset :] == self.tail

    def advance(self, standing: int) -> Span | None:
        """The part of `text` that one edit accepted; None if it was typed."""
        before, self.standing = self.standing, standing
        start = max(before, self.num_given, self.accepted_up_to)
        if len("".join(self.text[start:standing].split())) <= _TYPED_AT_ONCE:
            return None
        self.by_edits += standing - start
        self.accepted_up_to = standing
        return Span(start, standing)

    def place_of(self, part: Span, text: str) -> Span:
        """Where a part of the offer stands in a document."""
        start = _beyond(text, len(self.head), part.start)
        return Span(start, _beyond(text, start, part.end - part.start))


def offer(completion: str, place: Place, text: str, now: str) -> Offer:
    """`now` is the document as it is by now: more may have been typed than when it was asked for."""
    start = place.offset - place.num_chosen
    made = Offer(
        completion=completion,
        head=place.text[:start],
        tail=place.text[place.offset :],
        text=place.text[start : place.offset] + text,
        num_given=place.num_chosen,
    )
    made.standing = made.standing_in(now) or 0
    return made


def _beyond(text: str, at: int, count: int) -> int:
    """The offset `count` characters further, where a line end is one character."""
    for _ in range(count):
        at += 2 if text.startswith("\r\n", at) else 1
    return at
