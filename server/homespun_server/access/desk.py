"""What the routes about people share: who asks, the database, and that a refusal is noted."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from fastapi import Request
from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from homespun_core.errors import StorageError
from homespun_server.access import audit, reading
from homespun_server.access.audit import Actor
from homespun_server.access.changing import Change, changing
from homespun_server.access.decisions import Action, may
from homespun_server.access.http import ForbiddenError, principal_of
from homespun_server.access.limits import Limiter
from homespun_server.access.principal import Principal
from homespun_server.access.records import Team, User
from homespun_server.runtime import Runtime

logger = logging.getLogger(__name__)

_refusals = Limiter(1)
"""Noted once a minute for each user and kind: nobody fills the log by knocking."""


NOT_THERE = "There is no such user, team, token, grant or repository."


class NotThereError(Exception):
    """Said to somebody who may know."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Desk:
    runtime: Runtime
    principal: Principal
    actor: Actor

    @contextmanager
    def changing(self) -> Iterator[Change]:
        """What is changed acts in this process at once, in others within a second."""
        with changing(self.runtime.database, self.actor) as change:
            yield change
        with suppress(SQLAlchemyError):  # the lookup's own thread will see it
            self.runtime.lookup.look()

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        try:
            with self.runtime.database.connect() as connection:
                yield connection
        except SQLAlchemyError as error:
            raise StorageError(f"the database can't be read ({type(error).__name__}); try again in a moment") from error


def for_those_who(action: Action) -> Callable[[Request], Desk]:
    """For `Depends`: the desk, for whoever may do that. Who may not is refused and noted."""

    def found(request: Request) -> Desk:
        desk = anybody(request)
        if not may(desk.principal, action):
            note_refusal(desk, action)
            raise ForbiddenError(action)
        return desk

    return found


def anybody(request: Request) -> Desk:
    """The desk for what is one's own."""
    runtime, principal = request.app.state.runtime, principal_of(request)
    assert isinstance(runtime, Runtime)
    return Desk(runtime=runtime, principal=principal, actor=actor_of(request))


def actor_of(request: Request) -> Actor:
    principal = principal_of(request)
    return Actor(id=principal.user or principal.name, origin=request.client.host if request.client else "unknown")


def the_user(connection: Connection, word: str) -> User:
    user = reading.user_named(connection, word)
    if user is None or user.erased is not None:
        raise NotThereError("there is no such user")
    return user


def the_team(connection: Connection, word: str) -> Team:
    team = reading.team_named(connection, word)
    if team is None:
        raise NotThereError("there is no such team")
    return team


def note_refusal(desk: Desk, action: str) -> None:
    taken = _refusals.take(f"{desk.actor.id} {action}", time.monotonic())
    if taken is None or not taken.is_allowed:
        return
    try:
        with desk.runtime.database.begin() as connection:
            audit.append(connection, desk.actor, action, "route", decision="denied")
    except SQLAlchemyError as error:
        logger.warning("a refusal can't be noted: the database fails (%s)", type(error).__name__)
