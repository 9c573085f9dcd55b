"""What stands in training text where a credential or a person's data stood. Nothing may be learned from it."""

from __future__ import annotations

import re

PREFIX = "REDACTED_"
_PLACEHOLDER = re.compile(PREFIX + "[A-Z][A-Z0-9_]*")
_PLACEHOLDER_BYTES = re.compile(_PLACEHOLDER.pattern.encode())


def placeholder(kind: str) -> str:
    return PREFIX + kind


def spans(text: str) -> list[tuple[int, int]]:
    """Start and end of every placeholder, in order."""
    return [match.span() for match in _PLACEHOLDER.finditer(text)]


def byte_spans(text: bytes) -> list[tuple[int, int]]:
    return [match.span() for match in _PLACEHOLDER_BYTES.finditer(text)]
