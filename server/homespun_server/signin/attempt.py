"""A browser on its way to the identity provider and back. What must be the same on both ends travels in a cookie of
its own, so a server keeps nothing of people who never come back, and any replica can answer."""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
from dataclasses import asdict, dataclass

LIFETIME_S = 600
_MAX_COOKIE_CHARS = 3_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    state: str
    """Comes back in the address: the answer is to this browser's question."""
    nonce: str
    """Comes back in the identity token: it was made for this question."""
    verifier: str
    """Of PKCE: who redeems the code is who asked for it."""
    next: str
    """The page of ours to go on with."""

    @property
    def challenge(self) -> str:
        return _base64url(hashlib.sha256(self.verifier.encode()).digest())

    @property
    def cookie(self) -> str:
        return _base64url(json.dumps(asdict(self)).encode())


def new_attempt(next: str) -> Attempt:
    return Attempt(
        state=secrets.token_urlsafe(32), nonce=secrets.token_urlsafe(32), verifier=secrets.token_urlsafe(48), next=next
    )


def attempt_of(cookie: str) -> Attempt | None:
    """None for anything that isn't one of ours."""
    if len(cookie) > _MAX_COOKIE_CHARS:
        return None
    try:
        values = json.loads(base64.urlsafe_b64decode(cookie + "=" * (-len(cookie) % 4)))
        attempt = Attempt(**values)
    except (ValueError, TypeError):
        return None
    is_text = all(isinstance(value, str) and value for value in values.values())
    return attempt if is_text and attempt.next == local_path(attempt.next) else None


def local_path(wanted: str | None, default: str = "/") -> str:
    """`wanted` if it is a path of ours: what else a browser would take for the address of another site is not."""
    if not wanted or not wanted.startswith("/") or wanted.startswith(("//", "/\\")) or len(wanted) > 1_000:
        return default
    return wanted if wanted.isascii() and wanted.isprintable() and "\\" not in wanted else default


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
