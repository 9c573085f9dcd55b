"""Groups as SCIM has them, and as teams. Each function works in the transaction it is given."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from scim2_models import InvalidValueException, Meta, UniquenessException
from sqlalchemy import Connection, Row, delete, func, insert, or_, select, update

from homespun_server.access import reading
from homespun_server.access.changing import Change
from homespun_server.access.records import Source, Team
from homespun_server.access.tables import grants, members, teams
from homespun_server.signin.scim.resources import Group, Member
from homespun_server.signin.scim.users import moment
from homespun_server.signin.tables import provisioned_groups, provisioned_users


def ids(connection: Connection, name: str | None = None, external_id: str | None = None) -> Sequence[str]:
    """By when they came; or those of one name or external id."""
    query = select(teams.c.id).join(provisioned_groups, provisioned_groups.c.team == teams.c.id)
    if name is not None:
        query = query.where(or_(teams.c.name == name, func.lower(teams.c.name) == name.lower()))
    if external_id is not None:
        query = query.where(provisioned_groups.c.external_id == external_id)
    return connection.execute(query.order_by(provisioned_groups.c.created, teams.c.id)).scalars().all()


def find(connection: Connection, id: str) -> Group | None:
    query = select(provisioned_groups, teams.c.name).join(teams, teams.c.id == provisioned_groups.c.team)
    row = connection.execute(query.where(provisioned_groups.c.team == id)).one_or_none()
    return _resource(connection, row) if row else None


def create(change: Change, wanted: Group) -> str:
    """Its id. A team of that name becomes the group. Raises UniquenessException, InvalidValueException."""
    name = (wanted.display_name or "").strip()
    team = reading.team_named(change.connection, name) or change.add_team(name)
    if find(change.connection, team.id) is not None:
        raise UniquenessException(detail=f"displayName {name} is taken")
    now = time.time()
    row = {"team": team.id, "external_id": wanted.external_id, "created": now, "changed": now}
    change.connection.execute(insert(provisioned_groups).values(row))
    _set_members(change, team, wanted)
    return team.id


def write(change: Change, id: str, wanted: Group) -> None:
    """Raises UniquenessException, InvalidValueException."""
    team, name = reading.team_named(change.connection, id), (wanted.display_name or "").strip()
    assert team is not None
    if name != team.name:
        if reading.team_named(change.connection, name) is not None:
            raise UniquenessException(detail=f"displayName {name} is taken")
        change.rename_team(team, name)
    query = update(provisioned_groups).where(provisioned_groups.c.team == id)
    change.connection.execute(query.values(external_id=wanted.external_id, changed=time.time()))
    _set_members(change, team, wanted)


def remove(change: Change, id: str) -> None:
    """The team stays if somebody else put people into it or gave it rights."""
    team = reading.team_named(change.connection, id)
    assert team is not None
    for user in _member_ids(change.connection, id):
        _take_out(change, team, user)
    change.connection.execute(delete(provisioned_groups).where(provisioned_groups.c.team == id))
    others = select(members.c.user).where(members.c.team == id)
    rights = select(grants.c.id).where(grants.c.team == id)
    if change.connection.execute(others).first() is None and change.connection.execute(rights).first() is None:
        change.remove_team(team)


def _set_members(change: Change, team: Team, wanted: Group) -> None:
    ids = {member.value or "" for member in wanted.members or ()}
    before = set(_member_ids(change.connection, team.id))
    for id in sorted(ids - before):
        known = select(provisioned_users.c.user).where(provisioned_users.c.user == id)
        user = reading.user_with(change.connection, id) if change.connection.execute(known).first() else None
        if user is None:
            raise InvalidValueException(detail=f"members: there is no user {id[:64]}")
        change.add_member(team, user, "scim")
    for id in sorted(before - ids):
        _take_out(change, team, id)


def _take_out(change: Change, team: Team, id: str) -> None:
    """Also if their last sign-in said that they are in it: the same provider, earlier."""
    user = reading.user_with(change.connection, id)
    assert user is not None
    sources: tuple[Source, ...] = ("scim", "oidc")
    for source in sources:
        change.remove_member(team, user, source)


def _member_ids(connection: Connection, team: str) -> Sequence[str]:
    query = select(members.c.user).where(members.c.team == team, members.c.source == "scim")
    return connection.execute(query.order_by(members.c.user)).scalars().all()


def _resource(connection: Connection, row: Row[Any]) -> Group:
    people = [Member(value=id, ref=None) for id in _member_ids(connection, row.team)]
    return Group(
        id=row.team,
        external_id=row.external_id,
        display_name=row.name,
        members=people or None,
        meta=Meta(resource_type="Group", created=moment(row.created), last_modified=moment(row.changed)),
    )
