"""Tokens: `homespun_<id>_<secret>`. Whoever has the database can't make one of what is in it."""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass, field

_PREFIX = "homespun"
"""So that secret scanners find one that was committed."""
_MAX_CHARS = 200


@dataclass(frozen=True, slots=True)
class Token:
    id: str
    secret: str = field(repr=False)

    @property
    def text(self) -> str:
        """For whom it is made, once."""
        return f"{_PREFIX}_{self.id}_{self.secret}"

    @property
    def digest(self) -> str:
        """What is kept. 256 random bits need no salt and no slow hash."""
        return hashlib.sha256(self.secret.encode()).hexdigest()


def new_token() -> Token:
    return Token(secrets.token_hex(6), secrets.token_urlsafe(32))


def parsed(text: str) -> Token | None:
    prefix, _, rest = text.partition("_")
    id, _, secret = rest.partition("_")
    if prefix != _PREFIX or not id.isalnum() or not secret or len(text) > _MAX_CHARS or not text.isascii():
        return None
    return Token(id, secret)
