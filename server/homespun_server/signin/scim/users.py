"""People as SCIM has them, and as accounts. Each function works in the transaction it is given."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from scim2_models import InvalidValueException, Meta, UniquenessException
from sqlalchemy import Connection, Row, delete, insert, select, update

from homespun_server.access import reading
from homespun_server.access import tables as accounts
from homespun_server.access.changing import Change
from homespun_server.access.records import User as Account
from homespun_server.access.tables import audit
from homespun_server.signin.accounts import free_name
from homespun_server.signin.scim.resources import Membership, User
from homespun_server.signin.tables import identities, provisioned_groups, provisioned_users

ACTOR = "scim"
"""The provider, in the audit log."""
_MAX_CHARS = 200
_FIELDS = {"user_name", "name", "display_name", "active", "emails"}


def ids(connection: Connection, user_name: str | None = None, external_id: str | None = None) -> Sequence[str]:
    """By when they came; or those of one name or external id."""
    query = select(provisioned_users.c.user).order_by(provisioned_users.c.created, provisioned_users.c.user)
    if user_name is not None:
        query = query.where(provisioned_users.c.user_name_key == key(user_name))
    if external_id is not None:
        query = query.where(provisioned_users.c.external_id == external_id)
    return connection.execute(query).scalars().all()


def find(connection: Connection, id: str) -> User | None:
    row = connection.execute(select(provisioned_users).where(provisioned_users.c.user == id)).one_or_none()
    return _resource(connection, row) if row else None


def create(change: Change, wanted: User, issuer: str) -> str:
    """Its id. Whoever signed in at that issuer before they were announced keeps their account.

    Raises UniquenessException, InvalidValueException.
    """
    _check(change.connection, wanted, None)
    assert wanted.user_name is not None
    account = _signed_in_before(change.connection, wanted, issuer)
    if account is None:
        account = change.add_user(free_name(change.connection, wanted.user_name), source="scim")
    wanted.active, now = wanted.active is not False, time.time()
    row = {"user": account.id, "created": now} | _columns(wanted, now)
    change.connection.execute(insert(provisioned_users).values(row))
    _apply(change, account, wanted, active=wanted.active)
    return account.id


def write(change: Change, id: str, wanted: User) -> None:
    """Says nothing of `active`, nothing changes there. Raises UniquenessException, InvalidValueException."""
    _check(change.connection, wanted, id)
    account = reading.user_with(change.connection, id)
    assert account is not None
    query = update(provisioned_users).where(provisioned_users.c.user == id)
    change.connection.execute(query.values(_columns(wanted, time.time())))
    _apply(change, account, wanted, active=account.active if wanted.active is None else wanted.active)


def remove(change: Change, id: str) -> None:
    """The account stays, for the audit log, and can do nothing."""
    account = reading.user_with(change.connection, id)
    if account is not None and account.active:
        change.set_active(account, False, keep_an_admin=False)
    change.connection.execute(delete(provisioned_users).where(provisioned_users.c.user == id))
    of_user = (accounts.members.c.user == id) & (accounts.members.c.source == "scim")
    change.connection.execute(delete(accounts.members).where(of_user))


def key(user_name: str) -> str:
    return user_name.casefold()


def _apply(change: Change, account: Account, wanted: User, *, active: bool) -> None:
    """Somebody who has left has left, though they were the last admin: the api_token of the settings remains."""
    if active != account.active and (not active or _was_taken_back(change.connection, account)):
        change.set_active(account, active, keep_an_admin=False)
    email = _email(wanted)
    if email != account.email:
        change.set_email(account, email)


def _was_taken_back(connection: Connection, account: Account) -> bool:
    """Whether it was the provider that deactivated an account: whom an administrator has turned out, only an
    administrator lets in again."""
    is_it = (audit.c.action == "user.deactivate") & (audit.c.object == f"user:{account.id}")
    query = select(audit.c.actor).where(is_it).order_by(audit.c.number.desc()).limit(1)
    return connection.execute(query).scalar() == ACTOR


def _email(user: User) -> str | None:
    emails = sorted(user.emails or (), key=lambda email: not email.primary)
    values = (email.value or "" for email in emails)
    return next((value for value in values if re.fullmatch(r"[^@\s]{1,64}@[^@\s]{1,255}", value)), None)


def _check(connection: Connection, wanted: User, own: str | None) -> None:
    user_name = wanted.user_name or ""
    for name, value in (("userName", user_name), ("externalId", wanted.external_id or "")):
        if len(value) > _MAX_CHARS or not value.isprintable():
            raise InvalidValueException(detail=f"{name}: up to {_MAX_CHARS} printable characters")
    query = select(provisioned_users.c.user).where(provisioned_users.c.user_name_key == key(user_name))
    if connection.execute(query).scalar_one_or_none() not in (None, own):
        raise UniquenessException(detail=f"userName {user_name} is taken")


def _signed_in_before(connection: Connection, wanted: User, issuer: str) -> Account | None:
    """The provider's externalId is most often the subject of its identity tokens; at another one, such as that of
    before, the same subject is somebody else."""
    announced = select(provisioned_users.c.user)
    query = select(identities.c.user).where(
        identities.c.issuer == issuer,
        identities.c.subject == (wanted.external_id or ""),
        identities.c.user.not_in(announced),
    )
    found = connection.execute(query).scalars().all()
    return reading.user_with(connection, found[0]) if len(found) == 1 else None


def _columns(user: User, now: float) -> dict[str, Any]:
    return {
        "user_name_key": key(user.user_name or ""),
        "external_id": user.external_id,
        "document": user.model_dump(include=_FIELDS),
        "changed": now,
    }


def _resource(connection: Connection, row: Row[Any]) -> User:
    account = reading.user_with(connection, row.user)
    assert account is not None
    resource = User.model_validate(row.document)
    resource.id, resource.external_id = row.user, row.external_id
    if resource.active is not None:
        resource.active = account.active
    resource.groups = _groups(connection, row.user) or None
    resource.meta = Meta(resource_type="User", created=moment(row.created), last_modified=moment(row.changed))
    return resource


def _groups(connection: Connection, user: str) -> list[Membership]:
    query = (
        select(accounts.teams.c.id, accounts.teams.c.name)
        .join(accounts.members, accounts.members.c.team == accounts.teams.c.id)
        .join(provisioned_groups, provisioned_groups.c.team == accounts.teams.c.id)
        .where(accounts.members.c.user == user, accounts.members.c.source == "scim")
        .order_by(accounts.teams.c.name)
    )
    return [Membership(value=row.id, display=row.name) for row in connection.execute(query)]


def moment(time: float) -> datetime:
    return datetime.fromtimestamp(time, UTC)
