"""Credentials and personal data out of training text: a model recites what it was trained on.

The rules are tuned for recall: a false alarm costs one literal, a miss may be recited. Each find becomes a placeholder
that names its kind and is the same every time, so that redacting twice changes nothing.
"""

from __future__ import annotations

import re
from collections import Counter

from homespun_core.placeholders import PREFIX, placeholder
from homespun_indexer.credentials import CREDENTIALS, Rule
from homespun_indexer.personal import PERSONAL

RULES_VERSION = 4
"""Raise it when the rules change: corpora are then built anew."""
RULES = (*CREDENTIALS, *PERSONAL)


def redact(text: str) -> tuple[str, dict[str, int]]:
    """The text with placeholders for what no model should know, and how many of each kind were found."""
    found: Counter[str] = Counter()
    low = text.lower()
    for rule in RULES:
        if any(hint in low for hint in rule.hints):
            text = rule.pattern.sub(lambda match, rule=rule: _replaced(match, rule, found), text)  # type: ignore[misc]
    return text, dict(found)


def _replaced(match: re.Match[str], rule: Rule, found: Counter[str]) -> str:
    secret = match["secret"]
    if PREFIX in secret or not rule.accepts(secret):
        return match[0]
    found[rule.name] += 1
    start, end = match.start("secret") - match.start(), match.end("secret") - match.start()
    return match[0][:start] + placeholder(rule.name) + match[0][end:]
