"""What an edit does to places in a text. Pure."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Edit:
    """`added` in place of `start` to `end`."""

    start: int
    end: int
    added: str


@dataclass(frozen=True, slots=True)
class Span:
    start: int
    end: int

    def after(self, edit: Edit) -> Span:
        """Where the same text is after the edit. What was put in place of a part of it belongs to it; what was put
        right before or after it doesn't, unless nothing was left of it (deleted, and perhaps put back)."""
        delta = len(edit.added) - (edit.end - edit.start)
        is_empty_here = self.start == self.end == edit.start == edit.end
        if edit.end <= self.start and not is_empty_here:
            return Span(self.start + delta, self.end + delta)
        if edit.start >= self.end and not is_empty_here:
            return self
        return Span(min(self.start, edit.start), max(self.end, edit.end) + delta)


def between(before: str, after: str) -> Edit:
    """The smallest single edit, for editors that send whole documents."""
    shorter = min(len(before), len(after))
    # By halves: comparing slices is much faster than comparing characters one by one.
    head = bisect_left(range(1, shorter + 1), True, key=lambda n: before[:n] != after[:n])
    most = shorter - head
    tail = bisect_left(range(1, most + 1), True, key=lambda n: before[-n:] != after[-n:])
    return Edit(start=head, end=len(before) - tail, added=after[head : len(after) - tail])
