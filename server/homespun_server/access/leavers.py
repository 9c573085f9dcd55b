"""Whoever has left is trained on no more, whichever way their account was deactivated."""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy import Engine, select

from homespun_core import personal
from homespun_core.paths import DataDir
from homespun_server.access.tables import users


def take_back(data: DataDir, database: Engine) -> None:
    """What people wanted whose account isn't active, with all that was made of it. An account that this database
    doesn't know may be in another one: nothing is done about it. Raises SQLAlchemyError, BusyError, StorageError."""
    wanted = [wish.user for wish in personal.wishes(data)]
    if not wanted:
        return
    with database.connect() as connection:
        left = connection.execute(select(users.c.id).where(users.c.id.in_(wanted), users.c.active.is_(False))).scalars()
        gone = list(left)
    for user in gone:
        personal.take_back(data, user)


def following(data: DataDir, database: Engine) -> Callable[[], None]:
    """As a duty: an identity provider, or a command on another machine, reaches nothing but the database."""

    def take_back_of_leavers() -> None:
        take_back(data, database)

    return take_back_of_leavers
