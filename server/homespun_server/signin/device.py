"""Editors that can't show a page: they show a short code, and somebody who is signed in says that it is theirs.

The device flow of OAuth (RFC 8628). Both codes are kept as hashes; each leads to one token, once.
"""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from sqlalchemy import Engine, delete, func, insert, select, update

from homespun_server.signin.tables import device_codes

LIFETIME_S = 600
INTERVAL_S = 5
_LETTERS = "BCDFGHJKLMNPQRSTVWXZ"
"""As RFC 8628 has it: no vowels, so no words, and nothing that is mistaken for something else. Eight are 34 bits."""
_MAX_WAITING = 10_000

State = Literal["waiting", "approved", "denied", "used"]
Answer = Literal["granted", "authorization_pending", "slow_down", "access_denied", "expired_token", "invalid_grant"]


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceCode:
    id: str
    """Hash of the code that the editor holds."""
    client: str
    """The name of the device, as it says itself."""
    scope: str
    origin: str
    """The address that asked."""
    created: float
    interval_s: int
    """That long it has to wait between two questions."""
    polled: float | None
    state: State
    user: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    device_code: str
    user_code: str
    """With a hyphen, for reading."""


class TooManyError(Exception):
    """More editors wait than can be told apart."""


def answer_to(code: DeviceCode, now: float) -> Answer:
    """What an editor that asks again is told."""
    if code.state == "used":
        return "invalid_grant"
    if now >= code.created + LIFETIME_S:
        return "expired_token"
    if code.polled is not None and now - code.polled < code.interval_s:
        return "slow_down"
    answers: dict[State, Answer] = {
        "waiting": "authorization_pending",
        "approved": "granted",
        "denied": "access_denied",
    }
    return answers[code.state]


class DeviceCodes:
    def __init__(self, engine: Engine, clock: Callable[[], float] = time.time) -> None:
        self._engine, self._clock = engine, clock

    def start(self, client: str, scope: str, origin: str) -> Started:
        """Raises TooManyError."""
        started, now = Started(device_code=secrets.token_urlsafe(32), user_code=_new_user_code()), self._clock()
        row = {
            "id": _hash(started.device_code),
            "user_code": _hash(normal(started.user_code)),
            "client": client,
            "scope": scope,
            "origin": origin,
            "created": now,
            "interval_s": INTERVAL_S,
            "state": "waiting",
        }
        with self._engine.begin() as connection:
            connection.execute(delete(device_codes).where(device_codes.c.created < now - 2 * LIFETIME_S))
            if connection.execute(select(func.count()).select_from(device_codes)).scalar_one() >= _MAX_WAITING:
                raise TooManyError
            connection.execute(insert(device_codes).values(row))
        return started

    def waiting(self, user_code: str) -> DeviceCode | None:
        """The one that somebody has the code of before them."""
        code = self._one(device_codes.c.user_code == _hash(normal(user_code)))
        is_open = code is not None and code.state == "waiting" and self._clock() < code.created + LIFETIME_S
        return code if is_open else None

    def decide(self, code: DeviceCode, user: str, state: Literal["approved", "denied"]) -> bool:
        """False when it was decided meanwhile."""
        query = update(device_codes).where(device_codes.c.id == code.id, device_codes.c.state == "waiting")
        with self._engine.begin() as connection:
            return connection.execute(query.values(state=state, user=user)).rowcount == 1

    def ask(self, device_code: str) -> tuple[Answer, DeviceCode | None]:
        """What to tell the editor, which has asked once more now. `granted` may be said again until `use`."""
        code, now = self._one(device_codes.c.id == _hash(device_code)), self._clock()
        if code is None:
            return "invalid_grant", None
        answer = answer_to(code, now)
        interval_s = code.interval_s + (INTERVAL_S if answer == "slow_down" else 0)
        with self._engine.begin() as connection:
            query = update(device_codes).where(device_codes.c.id == code.id)
            connection.execute(query.values(polled=now, interval_s=interval_s))
        return answer, code

    def _one(self, condition: object) -> DeviceCode | None:
        query = select(*(device_codes.c[name] for name in DeviceCode.__slots__)).where(condition)  # type: ignore[arg-type]
        with self._engine.connect() as connection:
            row = connection.execute(query).one_or_none()
        return DeviceCode(**row._asdict()) if row else None


def normal(user_code: str) -> str:
    """As it is compared: however somebody types it."""
    return "".join(c for c in user_code.upper() if c in _LETTERS)


def _new_user_code() -> str:
    letters = "".join(secrets.choice(_LETTERS) for _ in range(8))
    return f"{letters[:4]}-{letters[4:]}"


def _hash(code: str) -> str:
    return hashlib.sha256(code.encode()).hexdigest()
