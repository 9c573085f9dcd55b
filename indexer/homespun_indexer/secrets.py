"""Credentials and personal data out of training text: a model recites what it was trained on.

The rules are tuned for recall: a false alarm costs one literal, a miss may be recited. Each find becomes a placeholder
that names its kind and is the same every time, so that redacting twice changes nothing.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from homespun_core.placeholders import PREFIX, placeholder
from homespun_indexer.credentials import CREDENTIALS, Rule
from homespun_indexer.personal import PERSONAL

RULES_VERSION = 5
"""Raise it when the rules change: corpora are then built anew."""
RULES = (*CREDENTIALS, *PERSONAL)


def _put_in_before(number: int) -> re.Pattern[str]:
    """The placeholders of the rules before one, and of none after it: so it finds the same when all is done again."""
    names = {rule.name for rule in RULES[:number]} - {rule.name for rule in RULES[number:]}
    return re.compile("|".join(map(placeholder, sorted(names, key=len, reverse=True))) or "(?!)")


_PUT_IN = tuple(map(_put_in_before, range(len(RULES))))


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
    for rule, put_in in zip(RULES, _PUT_IN, strict=True):
        if any(hint in low for hint in rule.hints):
            edits: list[Edit] = []
            text = rule.pattern.sub(partial(_replaced, rule, put_in, edits), text)
            if edits:
                found[rule.name] += len(edits)
                passes.append(edits)
    return Redacted(text, dict(found), passes)


def _replaced(rule: Rule, put_in: re.Pattern[str], edits: list[Edit], match: re.Match[str]) -> str:
    """Beside a token that a rule before has found, the rest of a literal may be a secret as well."""
    secret, (start, end) = match["secret"], match.span("secret")
    rest = put_in.sub("", secret) if PREFIX in secret else secret
    if not rest or PREFIX in rest or not rule.accepts(rest):
        return match[0]
    stands_in = placeholder(rule.name)
    edits.append(Edit(start, end, len(stands_in)))
    return match[0][: start - match.start()] + stands_in + match[0][end - match.start() :]
