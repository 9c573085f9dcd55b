"""What training has to know of those who want adapters of their own: these stand on what their owners are served."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from sqlalchemy import Engine

from homespun_core import personal
from homespun_core.config import Settings
from homespun_core.paths import DataDir
from homespun_core.scopes import UNKNOWN
from homespun_server.access import reading
from homespun_server.access.decisions import Guarded, readable_by
from homespun_server.access.records import Person

EVERY_S = 60.0
"""A few queries for each of these people; whoever asks for one is looked up at once."""


def may_have(person: Person, guarded: Iterable[Guarded], settings: Settings) -> tuple[str, ...]:
    """Now, for `Wish.may_have`: of what there is an index of. From admins nothing is kept, as in `live.lent`."""
    known = [g for g in guarded if g.is_adapter or g.groups is not None]
    readable = readable_by(person, known, settings.default_access == "everyone", time.time())
    return tuple(sorted({*(g.id for g in known), UNKNOWN} if readable is None else readable))


def noting(settings: Settings, database: Engine, guarded: Callable[[], tuple[Guarded, ...]]) -> Callable[[], None]:
    """As a duty: training may run where the database can't be reached, and has the data directory everywhere."""
    data = DataDir(settings.data_root)

    def note_rights() -> None:
        known = guarded()
        if not known:  # nothing is loaded yet
            return
        for wish in personal.wishes(data):
            with database.connect() as connection:
                person = reading.person(connection, wish.user)
            if person is None:  # of another database
                continue
            now = may_have(person, known, settings)
            if now != wish.may_have:
                personal.note_rights(data, wish.user, now)

    return note_rights
