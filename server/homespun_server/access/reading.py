"""What the database says of people and their rights. Each function reads in the transaction it is given."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any, cast

from sqlalchemy import Connection, Row, Select, exists, func, or_, select

from homespun_server.access.principal import Scope
from homespun_server.access.records import Credential, Grant, Person, Team, TokenRecord, User
from homespun_server.access.tables import access_state, grants, members, teams, tokens, users
from homespun_server.access.tokens import Token


def version(connection: Connection) -> int:
    """Higher after every change of anybody's rights."""
    return int(connection.execute(select(access_state.c.version)).scalar_one())


def has_accounts(connection: Connection) -> bool:
    return bool(connection.execute(select(exists().select_from(users))).scalar())


def all_users(connection: Connection) -> Sequence[User]:
    query = select(users).where(users.c.erased.is_(None)).order_by(users.c.name)
    return [_user(row) for row in connection.execute(query)]


def user_named(connection: Connection, word: str) -> User | None:
    """By name or id."""
    query = select(users).where(or_(users.c.name == word.lower(), users.c.id == word))
    row = connection.execute(query).first()
    return _user(row) if row else None


def user_with(connection: Connection, id: str) -> User | None:
    row = connection.execute(select(users).where(users.c.id == id)).first()
    return _user(row) if row else None


def all_teams(connection: Connection) -> Sequence[Team]:
    found: defaultdict[str, set[str]] = defaultdict(set)
    for row in connection.execute(select(members.c.team, users.c.name).join(users, users.c.id == members.c.user)):
        found[row.team].add(row.name)
    rows = connection.execute(select(teams).order_by(teams.c.name))
    return [Team(id=row.id, name=row.name, members=tuple(sorted(found[row.id]))) for row in rows]


def team_named(connection: Connection, word: str) -> Team | None:
    """By name or id."""
    return next((team for team in all_teams(connection) if word in (team.name, team.id)), None)


def all_grants(connection: Connection) -> Sequence[Grant]:
    return [_grant(row) for row in connection.execute(_granted().order_by(grants.c.created, grants.c.id))]


def forge_grants(connection: Connection, repository: str, now: float) -> set[str]:
    """Ids of the users whom a forge lets read it."""
    mine = (grants.c.pattern == repository) & (grants.c.source == "forge")
    query = select(grants.c.user).where(mine, grants.c.expires > now)
    return {str(user) for user in connection.execute(query).scalars()}


def all_tokens(connection: Connection, user: str | None = None) -> Sequence[TokenRecord]:
    """Of all users, or of one (id); revoked ones among them."""
    query = select(tokens, users.c.name.label("owner")).join(users, users.c.id == tokens.c.user)
    if user is not None:
        query = query.where(tokens.c.user == user)
    return [_token(row) for row in connection.execute(query.order_by(tokens.c.created, tokens.c.id))]


def person(connection: Connection, user: str) -> Person | None:
    """By id."""
    found = user_with(connection, user)
    if found is None:
        return None
    of_user = select(members.c.team).where(members.c.user == user)
    names = connection.execute(select(teams.c.name).where(teams.c.id.in_(of_user))).scalars()
    theirs = _granted().where(or_(grants.c.user == user, grants.c.team.in_(of_user)))
    return Person(
        user=found,
        teams=frozenset(names),
        grants=tuple(_grant(row) for row in connection.execute(theirs.order_by(grants.c.created, grants.c.id))),
    )


def credential_of(connection: Connection, token: Token) -> tuple[Credential, str] | None:
    """With the digest that its secret must have. None when there is none of that id, or it was revoked."""
    row = connection.execute(select(tokens).where(tokens.c.id == token.id, tokens.c.revoked.is_(None))).first()
    if row is None:
        return None
    return Credential(id=row.id, user=row.user, scopes=scopes_of(row.scopes), expires=row.expires), row.digest


def num_active_admins(connection: Connection) -> int:
    query = select(func.count()).select_from(users).where(users.c.role == "admin", users.c.active)
    return int(connection.execute(query).scalar_one())


def scopes_of(text: str) -> frozenset[Scope]:
    return cast(frozenset[Scope], frozenset(text.split()))


def _granted() -> Select[Any]:
    query = select(grants, users.c.name.label("user_name"), teams.c.name.label("team_name"))
    return query.outerjoin(users, users.c.id == grants.c.user).outerjoin(teams, teams.c.id == grants.c.team)


def _user(row: Row[Any]) -> User:
    return User(**row._asdict())


def _grant(row: Row[Any]) -> Grant:
    return Grant(
        id=row.id,
        subject=f"user:{row.user_name}" if row.user else f"team:{row.team_name}",
        pattern=row.pattern,
        source=row.source,
        created=row.created,
        expires=row.expires,
    )


def _token(row: Row[Any]) -> TokenRecord:
    return TokenRecord(
        id=row.id,
        user=row.owner,
        name=row.name,
        scopes=scopes_of(row.scopes),
        created=row.created,
        expires=row.expires,
        last_used=row.last_used,
        revoked=row.revoked,
    )
