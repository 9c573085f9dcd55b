"""The account of somebody whom the identity provider knows: found, or made when they come for the first time."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, count

from sqlalchemy import Connection, Engine, insert, or_, select

from homespun_core.errors import ConfigError
from homespun_server.access import reading
from homespun_server.access.audit import Actor
from homespun_server.access.changing import Change, changing
from homespun_server.access.principal import Role
from homespun_server.access.records import User
from homespun_server.signin.identity import Identity
from homespun_server.signin.provider import SignInRefusedError
from homespun_server.signin.tables import identities, provisioned_users

_MAX_NAME = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    admin_group: str
    """Who is in it is an admin, and nobody else of those who come this way; empty leaves roles alone."""
    is_provisioned: bool
    """Whether only people whom SCIM has announced have an account, so that whom it takes back has none."""


def signed_in(engine: Engine, identity: Identity, rules: Rules, origin: str) -> User:
    """Raises SignInRefusedError for people who have no account, or none any more; StorageError."""
    try:
        with changing(engine, Actor(id="oidc", origin=origin)) as change:
            user = _account(change, identity, rules)
            if not user.active:
                raise SignInRefusedError(f"the account {user.name} is deactivated; ask an administrator")
            _brought_up_to_date(change, user, identity, rules)
            change.note("session.start", f"user:{user.id}")
            return user
    except ConfigError as error:
        raise SignInRefusedError(str(error)) from error


def role_for(current: Role, groups: frozenset[str], admin_group: str) -> Role:
    if not admin_group:
        return current
    if admin_group in groups:
        return "admin"
    return "developer" if current == "admin" else current


def _account(change: Change, identity: Identity, rules: Rules) -> User:
    known = _known(change.connection, identity)
    if known is not None:
        if rules.is_provisioned and not _is_announced(change.connection, known):
            raise _unannounced(identity)
        return known
    user = _announced(change.connection, identity) if rules.is_provisioned else _new(change, identity)
    row = {"issuer": identity.issuer, "subject": identity.subject, "user": user.id, "created": time.time()}
    change.connection.execute(insert(identities).values(row))
    change.note("user.identity", f"user:{user.id}", issuer=identity.issuer)
    return user


def _known(connection: Connection, identity: Identity) -> User | None:
    """By issuer and subject alone: names and addresses are given to other people some day."""
    query = select(identities.c.user).where(
        identities.c.issuer == identity.issuer, identities.c.subject == identity.subject
    )
    id = connection.execute(query).scalar_one_or_none()
    return None if id is None else reading.user_with(connection, id)


def _announced(connection: Connection, identity: Identity) -> User:
    """Whom SCIM announced under what the provider says in `oidc_link_claim`, and who has no other identity."""
    link = identity.link or ""
    mine = or_(provisioned_users.c.external_id == link, provisioned_users.c.user_name_key == link.casefold())
    free = provisioned_users.c.user.not_in(select(identities.c.user))
    found = connection.execute(select(provisioned_users.c.user).where(mine, free)).scalars().all() if link else []
    user = reading.user_with(connection, found[0]) if len(found) == 1 else None
    if user is None:
        raise _unannounced(identity)
    return user


def _is_announced(connection: Connection, user: User) -> bool:
    """Not so whoever signed in before SCIM was switched on, until it announces them too."""
    query = select(provisioned_users.c.user).where(provisioned_users.c.user == user.id)
    return connection.execute(query).first() is not None


def _unannounced(identity: Identity) -> SignInRefusedError:
    return SignInRefusedError(
        f"{identity.name} has no account here; the identity provider must provision it first (SCIM), with what"
        " oidc_link_claim says as externalId or userName"
    )


def _new(change: Change, identity: Identity) -> User:
    name = free_name(change.connection, identity.name)
    return change.add_user(name, email=_usable(identity.email), source="oidc")


def free_name(connection: Connection, wanted: str) -> str:
    """A user name like `wanted` that nobody has. Somebody of the same name is somebody else."""
    return next(name for name in _names(wanted) if reading.user_named(connection, name) is None)


def _names(wanted: str) -> Iterator[str]:
    plain = re.sub(r"[^a-z0-9._@+-]+", "-", wanted.lower()).strip("-.@+")[:_MAX_NAME] or "user"
    return chain([plain], (f"{plain}-{number}" for number in count(2)))


def _brought_up_to_date(change: Change, user: User, identity: Identity, rules: Rules) -> None:
    role = role_for(user.role, identity.groups, rules.admin_group)
    if role != user.role:
        change.set_role(user, role, keep_an_admin=False)  # the provider says who is an admin, be it nobody
    if (email := _usable(identity.email)) is not None and email != user.email:
        change.set_email(user, email)
    change.set_teams(user, identity.groups, "oidc")


def _usable(email: str | None) -> str | None:
    return email if email and re.fullmatch(r"[^@\s]{1,64}@[^@\s]{1,255}", email) else None
