"""All that is kept of one person, to be handed out or erased: every table that refers to users is found by that."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sqlalchemy import Column, Connection, Table, delete, select, update

from homespun_core import registry
from homespun_core.paths import DataDir
from homespun_server.access import audit, reading
from homespun_server.access.changing import Change
from homespun_server.access.records import User
from homespun_server.access.tables import audit as audit_table
from homespun_server.access.tables import grants, members, tokens, users
from homespun_server.database.opening import unhurried
from homespun_server.database.schema import metadata
from homespun_server.feedback import sums
from homespun_server.feedback.tables import completions, events, kept_completions, usage_days
from homespun_server.jobs.tables import jobs
from homespun_server.signin import tables as signin_tables

_BY = "cancelled by "
"""In the reason of a job; see `jobs.states`."""
_TOLD_APART = (tokens, grants, members)
_SESSIONS = signin_tables.sessions
"""Named here so that its module is there to be found, also where nobody signs in: in the command."""
_SECRETS = frozenset(("id", "credential", "user_code"))
"""Columns of other tables that are worth something to somebody who would like to be this person."""


def exported(connection: Connection, user: User) -> dict[str, Any]:
    """As JSON values (sets aside), without anything one could sign in with."""
    person = reading.person(connection, user.id)
    assert person is not None
    others = {
        table.name: _rows(connection, select(*(c for c in table.c if c.name not in _SECRETS)).where(column == user.id))
        for table, column in _about_people()
        if table not in _TOLD_APART
    }
    return {
        **asdict(person),
        "tokens": [asdict(token) for token in reading.all_tokens(connection, user.id)],
        **others,
        "completions": _rows(connection, select(completions).where(completions.c.user == user.id)),
        "events": _rows(connection, select(events).join(completions).where(completions.c.user == user.id)),
        "kept_completions": _rows(
            connection,
            select(kept_completions).join(completions).where(completions.c.user == user.id),
        ),
        "usage": _rows(connection, select(usage_days).where(usage_days.c.user == user.id)),
        "audit": [entry.as_json() for entry in audit.entries_where(connection, audit_table.c.actor == user.id)],
    }


def erased(change: Change, user: User, data: DataDir) -> int:
    """How many completions went with them. Raises StorageError: then it is to be done again."""
    connection = change.connection
    unhurried(connection)
    for folder in _folders(data.all_adapters):
        registry.rename(folder, user.name, user.id)
    change.set_active(user, False)
    sums.forget_user(connection, user.id)
    of_user = select(completions.c.id).where(completions.c.user == user.id)
    connection.execute(delete(events).where(events.c.completion.in_(of_user)))
    number = connection.execute(delete(completions).where(completions.c.user == user.id)).rowcount
    for table, column in _about_people():
        connection.execute(delete(table).where(column == user.id))
    connection.execute(update(jobs).where(jobs.c.asked_by == user.name).values(asked_by=user.id))
    for id, reason in connection.execute(select(jobs.c.id, jobs.c.reason).where(jobs.c.reason.contains(_BY))).all():
        renamed = re.sub(rf"{_BY}{re.escape(user.name)}(?![\w.@+-])", f"{_BY}{user.id}", reason)
        if renamed != reason:
            connection.execute(update(jobs).where(jobs.c.id == id).values(reason=renamed))
    change.make_nameless(user)
    return number


def _folders(root: Path) -> list[Path]:
    return [path for path in root.iterdir() if path.is_dir()] if root.is_dir() else []


def _about_people() -> Iterator[tuple[Table, Column[Any]]]:
    for table in metadata.sorted_tables[::-1]:
        for column in table.columns:
            if column.references(users.c.id):
                yield table, column


def _rows(connection: Connection, query: Any) -> list[dict[str, Any]]:
    return [row._asdict() for row in connection.execute(query)]
