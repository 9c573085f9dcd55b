"""Credentials and personal data out of training text: a model recites what it was trained on.

The rules are tuned for recall: a false alarm costs one literal, a miss may be recited. Each find becomes a placeholder
that names its kind and is the same every time, so that redacting twice changes nothing.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from homespun_core.placeholders import PREFIX, placeholder
from homespun_indexer.credentials import CREDENTIALS, Rule
from homespun_indexer.personal import PERSONAL

RULES_VERSION = 4
"""Raise it when the rules change: corpora are then built anew."""
RULES = (*CREDENTIALS, *PERSONAL)


@dataclass(frozen=True, slots=True)
class Edit:
    """A secret, and how long the placeholder in its stead is."""

    start: int
    end: int
    length: int


@dataclass(frozen=True, slots=True)
class Redacted:
    text: str
    found: dict[str, int]
    """How many of each kind."""
    _passes: Sequence[Sequence[Edit]]
    """Of one rule each, by place in what the rules before it had left."""

    def place_of(self, offset: int) -> int | None:
        """Where that place of the original text is now; None when it was inside a secret."""
        for edits in self._passes:
            before = [edit for edit in edits if edit.start < offset]
            if before and before[-1].end > offset:
                return None
            offset += sum(edit.length - (edit.end - edit.start) for edit in before)
        return offset


def redact(text: str) -> tuple[str, dict[str, int]]:
    """The text with placeholders for what no model should know, and how many of each kind were found."""
    clean = redacted(text)
    return clean.text, clean.found


def redacted(text: str) -> Redacted:
    """`redact`, where places of the text are looked for afterwards."""
    found: Counter[str] = Counter()
    passes: list[list[Edit]] = []
    low = text.lower()
    for rule in RULES:
        if any(hint in low for hint in rule.hints):
            edits: list[Edit] = []
            text = rule.pattern.sub(lambda match, rule=rule, edits=edits: _replaced(match, rule, edits), text)  # type: ignore[misc]
            if edits:
                found[rule.name] += len(edits)
                passes.append(edits)
    return Redacted(text, dict(found), passes)


def _replaced(match: re.Match[str], rule: Rule, edits: list[Edit]) -> str:
    secret, (start, end) = match["secret"], match.span("secret")
    if PREFIX in secret or not rule.accepts(secret):
        return match[0]
    stands_in = placeholder(rule.name)
    edits.append(Edit(start, end, len(stands_in)))
    return match[0][: start - match.start()] + stands_in + match[0][end - match.start() :]
