"""Users, teams, grants and everybody's tokens, changed by `access.changing` with an entry in the audit log each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import get_args

from fastapi import APIRouter, Request
from fastapi.responses import Response

from homespun_core.errors import ConfigError, HomespunError
from homespun_server.access import reading
from homespun_server.access.changing import Change, changing
from homespun_server.access.principal import Role
from homespun_server.access.records import Team, User
from homespun_server.console.http.web import Form, actor_of, allowed, back_to, page, runtime_of
from homespun_server.console.sections import PATH

router = APIRouter()

_ROLES: tuple[Role, ...] = get_args(Role)
Fields = Mapping[str, str]


@router.get(f"{PATH}/people")
def show(request: Request) -> Response:
    return _shown(request)


@router.post(f"{PATH}/people")
def change(request: Request, form: Form) -> Response:
    allowed(request, "people")
    try:
        wanted = _CHANGES.get(form.get("change", ""))
        if wanted is None:
            raise ConfigError("change: there is no such change")
        with changing(runtime_of(request).database, actor_of(request)) as change:
            wanted(change, form)
    except HomespunError as error:
        return _shown(request, status=400, error=str(error))
    return back_to(f"{PATH}/people", "changed")


def _shown(request: Request, *, status: int = 200, error: str | None = None) -> Response:
    allowed(request, "people")
    with runtime_of(request).database.connect() as connection:
        found = {
            "users": reading.all_users(connection),
            "teams": reading.all_teams(connection),
            "grants": reading.all_grants(connection),
            "tokens": [token for token in reading.all_tokens(connection) if token.revoked is None],
        }
    return page(request, "people.html", "people", status=status, error=error, roles=_ROLES, **found)


def _user(change: Change, fields: Fields) -> User:
    word = fields.get("user", "").strip()
    found = reading.user_named(change.connection, word)
    if found is None or found.erased is not None:
        raise ConfigError(f"user {word[:80]!r}: there is none of that name")
    return found


def _team(change: Change, fields: Fields) -> Team:
    word = fields.get("team", "").strip()
    found = reading.team_named(change.connection, word)
    if found is None:
        raise ConfigError(f"team {word[:80]!r}: there is none of that name")
    return found


def _role(fields: Fields) -> Role:
    word = fields.get("role", "developer")
    found = next((role for role in _ROLES if role == word), None)
    if found is None:
        raise ConfigError(f"role {word[:40]!r}: choose one of {', '.join(_ROLES)}")
    return found


def _subject(change: Change, fields: Fields) -> User | Team:
    """`user:NAME` or `team:NAME`."""
    kind, _, name = fields.get("subject", "").strip().partition(":")
    if kind == "team":
        return _team(change, {"team": name})
    if kind == "user":
        return _user(change, {"user": name})
    raise ConfigError("subject: write user:NAME or team:NAME")


def _add_user(change: Change, fields: Fields) -> None:
    change.add_user(fields.get("user", ""), role=_role(fields), email=fields.get("email", "").strip() or None)


def _revoke_token(change: Change, fields: Fields) -> None:
    if not change.revoke_token(fields.get("token", "")):
        raise ConfigError("token: there is no such token, or it was revoked already")


def _revoke_grant(change: Change, fields: Fields) -> None:
    if not change.revoke_grants(_subject(change, fields), fields.get("pattern", ""), source="admin"):
        raise ConfigError("grant: there is no such grant that an admin gave")


_CHANGES: Mapping[str, Callable[[Change, Fields], object]] = {
    "add-user": _add_user,
    "role": lambda change, fields: change.set_role(_user(change, fields), _role(fields)),
    "deactivate": lambda change, fields: change.set_active(_user(change, fields), False),
    "activate": lambda change, fields: change.set_active(_user(change, fields), True),
    "add-team": lambda change, fields: change.add_team(fields.get("team", "")),
    "remove-team": lambda change, fields: change.remove_team(_team(change, fields)),
    "join": lambda change, fields: change.add_member(_team(change, fields), _user(change, fields)),
    "leave": lambda change, fields: change.remove_member(_team(change, fields), _user(change, fields), "admin"),
    "grant": lambda change, fields: change.grant(_subject(change, fields), fields.get("pattern", "").strip()),
    "revoke-grant": _revoke_grant,
    "revoke-token": _revoke_token,
}
