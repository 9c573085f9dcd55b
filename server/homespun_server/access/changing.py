"""Changes of people and rights. Each is one transaction with its entry in the audit log, and is refused without it."""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, get_args

from sqlalchemy import Connection, Engine, delete, insert, select, update
from sqlalchemy.exc import SQLAlchemyError

from homespun_core.errors import ConfigError, StorageError
from homespun_server.access import audit, reading
from homespun_server.access.audit import Actor
from homespun_server.access.principal import ALL_SCOPES, Role, Scope
from homespun_server.access.records import Source, Team, User
from homespun_server.access.tables import access_state, grants, members, teams, tokens, users
from homespun_server.access.tokens import Token, new_token
from homespun_server.signin.tables import sessions

_NAME = re.compile(r"[\w][\w.@+-]{0,127}")
_EMAIL = re.compile(r"[^@\s]{1,64}@[^@\s]{1,255}")
_TEAM = re.compile(r"[^\x00-\x1f\x7f]{1,128}")
_PATTERN = re.compile(r"[^\x00-\x1f\x7f]{1,512}")
ROLES: tuple[Role, ...] = get_args(Role)
SCOPES: tuple[Scope, ...] = get_args(Scope)


@contextmanager
def changing(engine: Engine, by: Actor) -> Iterator[Change]:
    """All of it or nothing. Raises StorageError when the database can't take it, audit log included."""
    try:
        with engine.begin() as connection:
            changed(connection)
            yield Change(connection, by)
    except SQLAlchemyError as error:
        is_full = "disk is full" in str(getattr(error, "orig", ""))
        reason = "the disk is full" if is_full else type(error).__name__
        raise StorageError(
            f"the database refuses the change ({reason}), and nothing was changed; see database_url"
        ) from error


def changed(connection: Connection) -> None:
    """Has every server on this database look again at what it knows of people, within a second. Takes the lock that
    changes wait for; call it first in a transaction."""
    connection.execute(update(access_state).values(version=access_state.c.version + 1))


class Change:
    """What may be changed, in one transaction. Raises ConfigError for what makes no sense."""

    def __init__(self, connection: Connection, by: Actor) -> None:
        self.connection, self._by = connection, by

    def note(self, action: str, object: str, **details: object) -> None:
        audit.append(self.connection, self._by, action, object, details=details)

    # People

    def add_user(
        self, name: str, *, role: Role = "developer", email: str | None = None, source: Source = "admin"
    ) -> User:
        name = name.strip().lower()
        if not _NAME.fullmatch(name):
            raise ConfigError(f"user {name!r}: no user name; write up to 128 letters, digits and any of . _ @ + -")
        if reading.user_named(self.connection, name):
            raise ConfigError(f"user {name}: is there already; choose another name")
        self._check_email(email)
        user = User(
            id=f"u{secrets.token_hex(8)}", name=name, email=email, role=_role(role), active=True, created=time.time()
        )
        values = {column.name: getattr(user, column.name) for column in users.c}
        self.connection.execute(insert(users).values(values))
        self.note("user.add", f"user:{user.id}", role=role, source=source)
        return user

    def set_role(self, user: User, role: Role, *, keep_an_admin: bool = True) -> None:
        self._set(user, "user.role", role=_role(role))
        if keep_an_admin:
            self._keep_an_admin(user)

    def set_email(self, user: User, email: str | None) -> None:
        self._check_email(email)
        self.connection.execute(update(users).where(users.c.id == user.id).values(email=email))
        self.note("user.email", f"user:{user.id}")

    def set_active(self, user: User, active: bool, *, keep_an_admin: bool = True) -> None:
        """Whoever is not active can do nothing; their tokens are revoked for good, and they are signed out."""
        self._set(user, "user.activate" if active else "user.deactivate", active=active)
        if not active:
            self._revoke_all(user)
        if not active and keep_an_admin:
            self._keep_an_admin(user)

    def make_nameless(self, user: User) -> None:
        """What stays of whoever is erased is the id, which the log goes on using; see `personal.erased`."""
        nameless = {"name": f"erased-{user.id}", "email": None, "role": "developer", "erased": time.time()}
        self.connection.execute(update(users).where(users.c.id == user.id).values(nameless))
        self.note("user.erase", f"user:{user.id}")

    # Teams

    def add_team(self, name: str) -> Team:
        name = name.strip()
        if not _TEAM.fullmatch(name):
            raise ConfigError(f"team {name!r}: no name of a team; write up to 128 characters on one line")
        if reading.team_named(self.connection, name):
            raise ConfigError(f"team {name}: is there already")
        team = Team(id=f"t{secrets.token_hex(8)}", name=name, members=())
        self.connection.execute(insert(teams).values(id=team.id, name=team.name, created=time.time()))
        self.note("team.add", f"team:{team.name}")
        return team

    def rename_team(self, team: Team, name: str) -> None:
        if not _TEAM.fullmatch(name) or reading.team_named(self.connection, name):
            raise ConfigError(f"team {name!r}: is no name, or that of another team")
        self.connection.execute(update(teams).where(teams.c.id == team.id).values(name=name))
        self.note("team.rename", f"team:{team.name}", name=name)

    def remove_team(self, team: Team) -> None:
        for table in (members, grants):
            self.connection.execute(delete(table).where(table.c.team == team.id))
        self.connection.execute(delete(teams).where(teams.c.id == team.id))
        self.note("team.remove", f"team:{team.name}")

    def add_member(self, team: Team, user: User, source: Source = "admin") -> None:
        key = {"team": team.id, "user": user.id, "source": source}
        if self.connection.execute(select(members.c.team).filter_by(**key)).first() is None:
            self.connection.execute(insert(members).values(key))
            self.note("team.join", f"team:{team.name}", user=user.id, source=source)

    def remove_member(self, team: Team, user: User, source: Source | None = None) -> None:
        """Whoever said so; or what one source said."""
        query = delete(members).where(members.c.team == team.id, members.c.user == user.id)
        if source is not None:
            query = query.where(members.c.source == source)
        if self.connection.execute(query).rowcount:
            self.note("team.leave", f"team:{team.name}", user=user.id)

    def set_teams(self, user: User, names: Iterable[str], source: Source) -> None:
        """All that one source says of a user's teams; new ones are made. What others say stays."""
        known = {team.name: team for team in reading.all_teams(self.connection)}
        said = select(teams.c.name).join(members).where(members.c.user == user.id, members.c.source == source)
        before, wanted = set(self.connection.execute(said).scalars()), set(names)
        for name in sorted(wanted - before):
            self.add_member(known.get(name) or self.add_team(name), user, source)
        for name in sorted(before - wanted):
            self.remove_member(known[name], user, source)

    # Rights

    def grant(
        self, subject: User | Team, pattern: str, *, source: Source = "admin", expires: float | None = None
    ) -> str:
        """Returns its id."""
        if not _PATTERN.fullmatch(pattern):
            raise ConfigError(f"{pattern!r}: no name of a repository; write a name, an id or a glob")
        id, who = f"g{secrets.token_hex(8)}", _reference(subject)
        values = {"id": id, "pattern": pattern, "source": source, "created": time.time(), "expires": expires}
        self.connection.execute(insert(grants).values(values | who))
        self.note("access.grant", f"repository:{pattern}", **who, source=source, expires=expires)
        return id

    def revoke_grants(self, subject: User | Team, pattern: str | None = None, source: Source | None = None) -> int:
        """How many there were."""
        ((column, id),) = _reference(subject).items()
        query = delete(grants).where(grants.c[column] == id)
        if pattern is not None:
            query = query.where(grants.c.pattern == pattern)
        if source is not None:
            query = query.where(grants.c.source == source)
        number = self.connection.execute(query).rowcount
        if number:
            self.note("access.revoke", f"repository:{pattern or '*'}", **{column: id}, number=number)
        return number

    def revoke_grant(self, id: str) -> bool:
        """Whether there was one."""
        pattern = self.connection.execute(select(grants.c.pattern).where(grants.c.id == id)).scalar()
        if pattern is None:
            return False
        self.connection.execute(delete(grants).where(grants.c.id == id))
        self.note("access.revoke", f"repository:{pattern}", grant=id)
        return True

    def add_token(
        self, user: User, name: str, *, scopes: Iterable[Scope] = ("complete",), expires: float | None = None
    ) -> Token:
        """The only time that its secret is known."""
        wanted = frozenset(scopes)
        if not wanted or not wanted <= ALL_SCOPES:
            raise ConfigError(f"scopes {', '.join(sorted(wanted)) or 'none'}: choose from {', '.join(SCOPES)}")
        if not user.active:
            raise ConfigError(f"user {user.name}: is deactivated and can have no token")
        if not _TEAM.fullmatch(name):
            raise ConfigError(f"token name {name!r}: write up to 128 characters on one line")
        token = new_token()
        values = {"id": token.id, "user": user.id, "name": name, "digest": token.digest, "created": time.time()}
        rights = {"scopes": " ".join(sorted(wanted)), "expires": expires}
        self.connection.execute(insert(tokens).values(values | rights))
        self.note("token.create", f"token:{token.id}", user=user.id, **rights)
        return token

    def revoke_token(self, id: str) -> bool:
        """Whether there was one that was good."""
        query = update(tokens).where(tokens.c.id == id, tokens.c.revoked.is_(None))
        if not self.connection.execute(query.values(revoked=time.time())).rowcount:
            return False
        self.note("token.revoke", f"token:{id}")
        return True

    # What these have in common

    def _set(self, user: User, action: str, **values: Any) -> None:
        self.connection.execute(update(users).where(users.c.id == user.id).values(values))
        self.note(action, f"user:{user.id}", **values)

    def _revoke_all(self, user: User) -> None:
        for id in self.connection.execute(
            select(tokens.c.id).where(tokens.c.user == user.id, tokens.c.revoked.is_(None))
        ).scalars():
            self.revoke_token(id)
        self.connection.execute(delete(sessions).where(sessions.c.user == user.id))

    def _keep_an_admin(self, user: User) -> None:
        if user.role == "admin" and user.active and not reading.num_active_admins(self.connection):
            raise ConfigError(f"user {user.name}: is the last admin; make another one first")

    def _check_email(self, email: str | None) -> None:
        if email is not None and not _EMAIL.fullmatch(email):
            raise ConfigError("email: doesn't look like an address; leave it out, or write name@example.com")


def _role(role: str) -> Role:
    for known in ROLES:
        if role == known:
            return known
    raise ConfigError(f"role {role!r}: choose from {', '.join(ROLES)}")


def _reference(subject: User | Team) -> dict[str, str]:
    return {"user" if isinstance(subject, User) else "team": subject.id}
