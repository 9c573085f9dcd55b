"""Browsers that are signed in. The cookie is 256 random bits; the database has its hash."""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy import Connection, Engine, delete, insert, select, update

from homespun_server.access.principal import ALL_SCOPES, Scope
from homespun_server.access.reading import scopes_of
from homespun_server.access.tables import tokens
from homespun_server.signin.tables import sessions

_TOUCH_S = 30.0
"""How often it is written down that a session is in use."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    id: str
    """Hash of the cookie."""
    user: str | None
    """Id; None for the settings' api_token."""
    scopes: frozenset[Scope]
    is_by_token: bool
    """Whether it was opened with a token, and ends with that."""
    csrf: str
    """What the session's forms carry. Other sites can send the cookie, and can't read this."""
    ends: float
    """At the latest."""


class Sessions:
    def __init__(
        self,
        engine: Engine,
        *,
        idle_s: float,
        longest_s: float,
        api_token: str = "",
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._engine, self._idle_s, self._longest_s, self._clock = engine, idle_s, longest_s, clock
        self._api_mark = f"api-{_hash(f'mark {api_token}')[:32]}" if api_token else None

    def start(self, user: str, token: str = "") -> str:
        """The new cookie, for somebody who showed a token (its id) or whom the identity provider knows. A browser never
        goes on with a cookie that it had before it was signed in."""
        return self._start(user, token)

    def start_with_api_token(self) -> str:
        """For whoever showed the one of the settings. Ends when that is changed."""
        assert self._api_mark is not None
        return self._start(None, self._api_mark)

    def find(self, cookie: str) -> Session | None:
        """None for one that was ended, was idle for too long or is too old. Being asked for counts as use."""
        id, now = _hash(cookie), self._clock()
        with self._engine.connect() as connection:
            row = connection.execute(select(sessions).where(sessions.c.id == id)).one_or_none()
            if row is None or now >= min(row.seen + self._idle_s, row.created + self._longest_s):
                return None
            scopes = self._scopes(connection, row.credential, now)
        if scopes is None:
            return None
        if now - row.seen > _TOUCH_S:
            self._touch(id, now)
        return Session(
            id=id,
            user=row.user,
            scopes=scopes,
            is_by_token=bool(row.credential),
            csrf=_hash(f"csrf {cookie}"),
            ends=row.created + self._longest_s,
        )

    def end(self, id: str) -> None:
        with self._engine.begin() as connection:
            connection.execute(delete(sessions).where(sessions.c.id == id))

    def _start(self, user: str | None, credential: str) -> str:
        cookie, now = secrets.token_urlsafe(32), self._clock()
        row = {"id": _hash(cookie), "user": user, "credential": credential, "created": now, "seen": now}
        with self._engine.begin() as connection:
            connection.execute(delete(sessions).where(sessions.c.created < now - self._longest_s))
            connection.execute(delete(sessions).where(sessions.c.seen < now - self._idle_s))
            connection.execute(insert(sessions).values(row))
        return cookie

    def _scopes(self, connection: Connection, credential: str, now: float) -> frozenset[Scope] | None:
        """What the session may do; None when what it was opened with is no longer good."""
        if credential in ("", self._api_mark):
            return ALL_SCOPES
        query = select(tokens.c.scopes, tokens.c.expires).where(tokens.c.id == credential, tokens.c.revoked.is_(None))
        token = connection.execute(query).one_or_none()
        if token is None or (token.expires is not None and token.expires <= now):
            return None
        return scopes_of(token.scopes)

    def _touch(self, id: str, now: float) -> None:
        with self._engine.begin() as connection:
            connection.execute(update(sessions).where(sessions.c.id == id).values(seen=now))


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()
