"""What tests ask and change of accounts, beside the application."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

from fastapi import FastAPI

from homespun_server.access import reading
from homespun_server.access.audit import Actor
from homespun_server.access.changing import Change, changing
from homespun_server.access.principal import Role, Scope
from homespun_server.access.records import Person

ADMIN = Actor(id="local", origin="cli")
REVOKED_S = 5.0
"""So long after a right was taken it may still be used."""


@contextmanager
def change(app: FastAPI) -> Iterator[Change]:
    """As another process would: the application isn't told."""
    with changing(app.state.runtime.database, ADMIN) as made:
        yield made


def person(app: FastAPI, name: str) -> Person | None:
    with app.state.runtime.database.connect() as connection:
        user = reading.user_named(connection, name)
        return None if user is None else reading.person(connection, user.id)


def token(app: FastAPI, name: str, *scopes: Scope, role: Role = "developer") -> str:
    with change(app) as made:
        user = reading.user_named(made.connection, name) or made.add_user(name, role=role)
        return made.add_token(user, "laptop", scopes=scopes or ("complete",)).text


async def within_5_s(holds: Callable[[], Awaitable[bool]]) -> bool:
    end = time.monotonic() + REVOKED_S
    while time.monotonic() < end:
        if await holds():
            return True
        await asyncio.sleep(0.05)
    return False
