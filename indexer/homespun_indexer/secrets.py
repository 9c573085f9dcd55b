"""Credentials out of training text: a model recites what it was trained on.

A compact rule set, tuned for recall: a false alarm costs one literal, a miss may be recited. Each find becomes a
placeholder that names its kind and is the same every time, so that redacting twice changes nothing. Formats: the rules
of gitleaks and the providers' documentation.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from dataclasses import dataclass

RULES_VERSION = 2
"""Raise it when the rules change: corpora are then built anew."""


@dataclass(frozen=True, slots=True)
class Rule:
    """What the group `secret` of the pattern matches is a secret, if it looks random enough (bits a character)."""

    name: str
    pattern: re.Pattern[str]
    min_entropy: float = 0.0


def _rule(name: str, pattern: str, min_entropy: float = 0.0, flags: int = 0) -> Rule:
    return Rule(name, re.compile(pattern, flags), min_entropy)


# No pattern takes more than linear time, or else within a line: a key ends at the next one's beginning, and a name is
# looked through once, from its own beginning.
RULES = (
    _rule(
        "PRIVATE_KEY",
        r"-----BEGIN [A-Z ]*PRIVATE KEY(?: BLOCK)?-----(?P<secret>(?:(?!-----BEGIN [A-Z ]*PRIVATE KEY).){20,8000}?)"
        r"-----END [A-Z ]*PRIVATE KEY(?: BLOCK)?-----",
        flags=re.DOTALL,
    ),
    _rule("AWS_KEY", r"\b(?P<secret>(?:AKIA|ASIA|ABIA|ACCA)[A-Z0-9]{16})\b"),
    _rule("GITHUB_TOKEN", r"\b(?P<secret>gh[pousr]_[A-Za-z0-9]{36,255}|github_pat_[A-Za-z0-9_]{50,255})\b"),
    _rule("GITLAB_TOKEN", r"\b(?P<secret>gl(?:pat|ptt|dt|rt|cbt)-[A-Za-z0-9_-]{20,64})"),
    _rule("SLACK_TOKEN", r"\b(?P<secret>xox[abeoprs]-[A-Za-z0-9-]{10,250})"),
    _rule("SLACK_WEBHOOK", r"hooks\.slack\.com/(?:services|workflows)/(?P<secret>[A-Za-z0-9+/]{20,})"),
    _rule("GOOGLE_KEY", r"\b(?P<secret>AIza[A-Za-z0-9_-]{35})"),
    _rule("STRIPE_KEY", r"\b(?P<secret>[rs]k_(?:live|test)_[A-Za-z0-9]{16,128})"),
    _rule("OPENAI_KEY", r"\b(?P<secret>sk-(?:proj-|ant-[a-z0-9]+-)?[A-Za-z0-9_-]{32,200})", min_entropy=3.0),
    _rule("NPM_TOKEN", r"\b(?P<secret>npm_[A-Za-z0-9]{36})\b"),
    _rule("PYPI_TOKEN", r"\b(?P<secret>pypi-[A-Za-z0-9_-]{50,1000})"),
    _rule("JWT", r"\b(?P<secret>eyJ[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,})"),
    _rule("URL_PASSWORD", r"(?<=[a-z0-9+.-])://[^\s:/@\"'`]{1,64}:(?P<secret>[^\s/@\"'`<>{}$%]{4,128})@[\w.-]"),
    _rule(
        "ASSIGNED",
        r"(?<![\w-])(?>[\w-]*?(?:pass(?:word|wd|phrase)|secret|token|(?:api|access|private|client)[_-]?key|credential))"
        r"[\w-]*+[\"'\]]{0,2}\s*(?::=|=>|[:=,(])\s*(?:[a-z]\w*\()?[\"'`](?P<secret>[^\s\"'`<>{}$%]{10,200})[\"'`]",
        min_entropy=3.0,
        flags=re.IGNORECASE,
    ),
)


def redact(text: str) -> tuple[str, dict[str, int]]:
    """The text with placeholders for secrets, and how many of each kind were found."""
    found: Counter[str] = Counter()
    for rule in RULES:
        text = rule.pattern.sub(lambda match, rule=rule: _replaced(match, rule, found), text)  # type: ignore[misc]
    return text, dict(found)


def entropy(text: str) -> float:
    """Bits a character, from the text's own character counts."""
    return -sum(n / len(text) * math.log2(n / len(text)) for n in Counter(text).values()) if text else 0.0


def _replaced(match: re.Match[str], rule: Rule, found: Counter[str]) -> str:
    secret = match["secret"]
    placeholder = f"REDACTED_{rule.name}"
    if secret.strip() == placeholder or (rule.min_entropy and not _looks_random(secret, rule.min_entropy)):
        return match[0]
    found[rule.name] += 1
    start, end = match.start("secret") - match.start(), match.end("secret") - match.start()
    return match[0][:start] + placeholder + match[0][end:]


def _looks_random(value: str, min_entropy: float) -> bool:
    """Not a name, path or sentence: digits among letters, and varied."""
    if value.startswith("REDACTED_") or not (re.search(r"\d", value) and re.search(r"[A-Za-z]", value)):
        return False
    return entropy(value) >= min_entropy
