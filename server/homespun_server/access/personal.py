"""All that is kept of one person, to be handed out or erased."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from sqlalchemy import Connection, delete, select

from homespun_server.access import audit, reading
from homespun_server.access.changing import Change
from homespun_server.access.records import User
from homespun_server.access.tables import audit as audit_table
from homespun_server.feedback.tables import completions, events
from homespun_server.signin.tables import device_codes, identities, provisioned_users, sessions


def exported(connection: Connection, user: User) -> dict[str, Any]:
    """As JSON values (sets aside); no secret is among it, since none is kept."""
    person = reading.person(connection, user.id)
    assert person is not None
    return {
        **asdict(person),
        "tokens": [asdict(token) for token in reading.all_tokens(connection, user.id)],
        "identities": _rows(connection, select(identities).where(identities.c.user == user.id)),
        "provisioned": _rows(connection, select(provisioned_users).where(provisioned_users.c.user == user.id)),
        "completions": _rows(connection, select(completions).where(completions.c.user == user.id)),
        "events": _rows(connection, select(events).join(completions).where(completions.c.user == user.id)),
        "audit": [entry.as_json() for entry in audit.entries_where(connection, audit_table.c.actor == user.id)],
    }


def erased(change: Change, user: User) -> int:
    """How many completions went with them."""
    of_user = select(completions.c.id).where(completions.c.user == user.id)
    change.connection.execute(delete(events).where(events.c.completion.in_(of_user)))
    number = change.connection.execute(delete(completions).where(completions.c.user == user.id)).rowcount
    for table in (identities, provisioned_users, sessions, device_codes):
        change.connection.execute(delete(table).where(table.c.user == user.id))
    change.erase_user(user)
    return number


def _rows(connection: Connection, query: Any) -> list[dict[str, Any]]:
    return [row._asdict() for row in connection.execute(query)]
