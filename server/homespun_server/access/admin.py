"""People and rights over HTTP, for admins: what `homespun user`, `team`, `token`, `access` and `audit` do.

Each change is refused if it can't be written to the audit log. The routes are plain functions, which run in threads:
they wait for the database.
"""

from __future__ import annotations

import time
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query

from homespun_core.errors import ConfigError
from homespun_core.paths import DataDir
from homespun_core.personal import take_back
from homespun_server.access import audit, heads, reading, wire
from homespun_server.access.changing import Change
from homespun_server.access.decisions import verdict_on
from homespun_server.access.desk import NOT_THERE, Desk, NotThereError, for_those_who, the_team, the_user
from homespun_server.access.personal import erased, exported
from homespun_server.access.records import Team, User

_DAY_S = 86_400
_MAX_NUMBER = 2**63 - 1
"""Of an entry: a database has no larger ones."""

router = APIRouter(prefix="/v1/homespun/admin", tags=["people and access"], responses={404: {"description": NOT_THERE}})

People = Annotated[Desk, Depends(for_those_who("manage-people"))]
Audit = Annotated[Desk, Depends(for_those_who("read-audit"))]


@router.get("/users")
def users(desk: People) -> list[wire.UserSeen]:
    with desk.reading() as connection:
        teams = reading.all_teams(connection)
        return [
            wire.user_seen(user, [team.name for team in teams if user.name in team.members])
            for user in reading.all_users(connection)
        ]


@router.post("/users", status_code=201)
def add_user(desk: People, new: wire.NewUser) -> wire.UserSeen:
    with desk.changing() as change:
        user = change.add_user(new.name, role=new.role, email=new.email)
        for word in new.teams:
            change.add_member(the_team(change.connection, word), user)
        return _seen(change, user)


@router.get("/users/{name}")
def user(desk: People, name: str) -> wire.UserSeen:
    with desk.reading() as connection:
        found = the_user(connection, name)
        teams = [team.name for team in reading.all_teams(connection) if found.name in team.members]
    return wire.user_seen(found, teams)


@router.patch("/users/{name}")
def change_user(desk: People, name: str, changes: wire.UserChanges) -> wire.UserSeen:
    with desk.changing() as change:
        found = the_user(change.connection, name)
        if changes.role is not None:
            change.set_role(found, changes.role)
        if "email" in changes.model_fields_set:
            change.set_email(found, changes.email)
        if changes.active is not None:
            change.set_active(found, changes.active)
        return _seen(change, the_user(change.connection, found.id))


@router.delete("/users/{name}")
def erase_user(desk: People, name: str) -> wire.Erased:
    """All that is known of them, feedback included. It can't be undone."""
    data = DataDir(desk.runtime.settings.data_root)
    with desk.reading() as connection:
        found = the_user(connection, name)
    take_back(data, found.id)  # waits for who is publishing it: not while everybody else waits for the database
    with desk.changing() as change:
        return wire.Erased(erased=found.id, completions=erased(change, found, data))


@router.get("/users/{name}/export")
def export_user(desk: People, name: str) -> dict[str, Any]:
    """All that is known of them."""
    with desk.reading() as connection:
        return exported(connection, the_user(connection, name))


@router.get("/teams")
def teams(desk: People) -> list[wire.TeamSeen]:
    with desk.reading() as connection:
        return [wire.team_seen(team) for team in reading.all_teams(connection)]


@router.post("/teams", status_code=201)
def add_team(desk: People, new: wire.NewTeam) -> wire.TeamSeen:
    with desk.changing() as change:
        return wire.team_seen(change.add_team(new.name))


@router.delete("/teams/{name}", status_code=204)
def remove_team(desk: People, name: str) -> None:
    with desk.changing() as change:
        change.remove_team(the_team(change.connection, name))


@router.put("/teams/{name}/members/{user}", status_code=204)
def join_team(desk: People, name: str, user: str) -> None:
    with desk.changing() as change:
        change.add_member(the_team(change.connection, name), the_user(change.connection, user))


@router.delete("/teams/{name}/members/{user}", status_code=204)
def leave_team(desk: People, name: str, user: str) -> None:
    with desk.changing() as change:
        change.remove_member(the_team(change.connection, name), the_user(change.connection, user))


@router.get("/grants")
def grants(desk: People) -> list[wire.GrantSeen]:
    with desk.reading() as connection:
        return [wire.grant_seen(grant) for grant in reading.all_grants(connection)]


@router.post("/grants", status_code=201)
def add_grant(desk: People, new: wire.NewGrant) -> wire.GrantSeen:
    with desk.changing() as change:
        id = change.grant(_subject(change, new), new.repository)
        return next(wire.grant_seen(grant) for grant in reading.all_grants(change.connection) if grant.id == id)


@router.delete("/grants/{id}", status_code=204)
def revoke_grant(desk: People, id: str) -> None:
    with desk.changing() as change:
        if not change.revoke_grant(id):
            raise NotThereError("there is no such grant")


@router.get("/tokens")
def tokens(desk: People, user: str | None = None) -> list[wire.TokenSeen]:
    with desk.reading() as connection:
        of = the_user(connection, user).id if user is not None else None
        return [wire.token_seen(token) for token in reading.all_tokens(connection, of)]


@router.post("/tokens", status_code=201)
def add_token(desk: People, new: wire.NewTokenOf) -> wire.TokenMade:
    with desk.changing() as change:
        return made_token(change, the_user(change.connection, new.user), new)


@router.delete("/tokens/{id}", status_code=204)
def revoke_token(desk: People, id: str) -> None:
    with desk.changing() as change:
        if not change.revoke_token(id):
            raise NotThereError("there is no such token that is still good")


@router.get("/access")
def check(desk: People, user: str, repository: str | None = None) -> list[wire.Checked]:
    """What somebody may read of what this server has, and why."""
    with desk.reading() as connection:
        person = reading.person(connection, the_user(connection, user).id)
    assert person is not None
    is_open = desk.runtime.settings.default_access == "everyone"
    found = [
        wire.Checked(repository=g.id, allowed=verdict.allowed, why=verdict.why)
        for g in desk.runtime.guarded()
        if repository is None or repository in (g.id, g.name, *g.addresses)
        for verdict in [verdict_on(person, g, is_open, time.time())]
    ]
    if repository is not None and not found:
        raise NotThereError("there is no such repository on this server")
    return found


@router.get("/audit")
def entries(
    desk: Audit,
    after: Annotated[int, Query(ge=0, le=_MAX_NUMBER)] = 0,
    newest: Annotated[int, Query(ge=1, le=10_000)] = 100,
) -> list[wire.EntrySeen]:
    """In order: the last so many of those after a number."""
    with desk.reading() as connection:
        return [wire.EntrySeen(**entry.as_json()) for entry in audit.entries(connection, after, newest)]


@router.get("/audit/verification")
def verification(desk: Audit, noted: str | None = None) -> wire.Chain:
    """Whether the chain holds; `noted` is a digest that must be in it."""
    with desk.reading() as connection:
        found = audit.verify(connection, noted, heads.read(heads.heads_file(DataDir(desk.runtime.settings.data_root))))
    return wire.Chain(entries=found.entries, head=found.head, problem=found.problem, has_noted=found.has_noted)


def made_token(change: Change, user: User, new: wire.NewToken) -> wire.TokenMade:
    expires = None if new.days is None else time.time() + new.days * _DAY_S
    token = change.add_token(user, new.name, scopes=new.scopes, expires=expires)
    return wire.TokenMade(id=token.id, token=token.text, user=user.name, expires=expires)


def _seen(change: Change, user: User) -> wire.UserSeen:
    teams = [team.name for team in reading.all_teams(change.connection) if user.name in team.members]
    return wire.user_seen(user, teams)


def _subject(change: Change, new: wire.NewGrant) -> User | Team:
    if new.user is not None and new.team is None:
        return the_user(change.connection, new.user)
    if new.team is not None and new.user is None:
        return the_team(change.connection, new.team)
    raise ConfigError("grant: say who by one of user and team")
