"""Browsers that are signed in. The cookie is 256 random bits; the database has its hash."""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy import Engine, delete, insert, select, update

from homespun_server.signin.tables import sessions

_TOUCH_S = 30.0
"""How often it is written down that a session is in use."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    id: str
    """Hash of the cookie."""
    user: str | None
    """Id; None for the settings' api_token."""
    credential: str
    """What it was opened with and ends with; empty for the identity provider."""
    csrf: str
    """What the session's forms carry. Other sites can send the cookie, and can't read this."""
    expires: float


class Sessions:
    def __init__(self, engine: Engine, *, idle_s: float, longest_s: float, clock: Callable[[], float] = time.time):
        self._engine, self._idle_s, self._longest_s, self._clock = engine, idle_s, longest_s, clock

    def start(self, user: str | None, credential: str = "") -> str:
        """The new cookie. A browser never goes on with one that it had before it was signed in."""
        cookie, now = secrets.token_urlsafe(32), self._clock()
        row = {"id": _hash(cookie), "user": user, "credential": credential, "created": now, "seen": now}
        with self._engine.begin() as connection:
            connection.execute(delete(sessions).where(sessions.c.created < now - self._longest_s))
            connection.execute(delete(sessions).where(sessions.c.seen < now - self._idle_s))
            connection.execute(insert(sessions).values(row))
        return cookie

    def find(self, cookie: str) -> Session | None:
        """None for one that was ended, was idle for too long or is too old. Being asked for counts as use."""
        id, now = _hash(cookie), self._clock()
        with self._engine.connect() as connection:
            row = connection.execute(select(sessions).where(sessions.c.id == id)).one_or_none()
        if row is None or now >= (expires := min(row.seen + self._idle_s, row.created + self._longest_s)):
            return None
        if now - row.seen > _TOUCH_S:
            self._touch(id, now)
        csrf = _hash(f"csrf {cookie}")
        return Session(id=id, user=row.user, credential=row.credential, csrf=csrf, expires=expires)

    def end(self, id: str) -> None:
        with self._engine.begin() as connection:
            connection.execute(delete(sessions).where(sessions.c.id == id))

    def end_all(self, user: str) -> int:
        with self._engine.begin() as connection:
            return connection.execute(delete(sessions).where(sessions.c.user == user)).rowcount

    def _touch(self, id: str, now: float) -> None:
        with self._engine.begin() as connection:
            connection.execute(update(sessions).where(sessions.c.id == id).values(seen=now))


def mark(api_token: str) -> str:
    """Stands for the api_token in a session, which so ends when the token is changed."""
    return f"api-{_hash(f'mark {api_token}')[:32]}"


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
