"""The JSON of `/v1/homespun/admin` and `/v1/homespun/me`. Times are seconds since 1970."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from homespun_server.access.principal import Role, Scope
from homespun_server.access.records import Grant, Team, TokenRecord, User


class _Sent(BaseModel):
    """What is misspelt is refused, not left out."""

    model_config = ConfigDict(extra="forbid", strict=True)


class NewUser(_Sent):
    name: str
    role: Role = "developer"
    email: str | None = None
    teams: list[str] = Field(default_factory=list, max_length=1_000)


class UserChanges(_Sent):
    """What isn't there stays as it is."""

    role: Role | None = None
    email: str | None = None
    active: bool | None = None


class NewTeam(_Sent):
    name: str


class NewGrant(_Sent):
    """To one of the two."""

    user: str | None = None
    team: str | None = None
    repository: str
    """A name, an id, or a glob of names or addresses."""


class NewToken(_Sent):
    name: str
    scopes: list[Scope] = Field(default_factory=lambda: list[Scope](["complete"]), max_length=3)
    days: float | None = Field(default=90.0, gt=0, le=36_500)
    """null is no end."""


class NewTokenOf(NewToken):
    user: str


class UserSeen(BaseModel):
    id: str
    name: str
    email: str | None
    role: Role
    active: bool
    created: float
    teams: list[str]


class TeamSeen(BaseModel):
    id: str
    name: str
    members: list[str]


class GrantSeen(BaseModel):
    id: str
    subject: str
    repository: str
    source: str
    created: float
    expires: float | None


class TokenSeen(BaseModel):
    id: str
    user: str
    name: str
    scopes: list[str]
    created: float
    expires: float | None
    last_used: float | None
    revoked: float | None


class TokenMade(BaseModel):
    id: str
    token: str
    """Shown this once."""
    user: str
    expires: float | None


class Whoami(BaseModel):
    id: str
    name: str
    role: Role
    scopes: list[str]
    repositories: list[str] | None
    """Ids of those that may be read; null is all."""
    keeps_completions: list[str]
    """Names of the repositories whose completions are kept here, with their prompts."""


class Checked(BaseModel):
    repository: str
    allowed: bool
    why: str


class EntrySeen(BaseModel):
    number: int
    time_ms: int
    actor: str
    action: str
    object: str
    decision: str
    origin: str
    details: dict[str, Any]
    previous: str
    digest: str


class Chain(BaseModel):
    entries: int
    head: str
    problem: str | None
    has_noted: bool


class Erased(BaseModel):
    erased: str
    completions: int


def user_seen(user: User, teams: list[str]) -> UserSeen:
    return UserSeen(
        id=user.id,
        name=user.name,
        email=user.email,
        role=user.role,
        active=user.active,
        created=user.created,
        teams=teams,
    )


def team_seen(team: Team) -> TeamSeen:
    return TeamSeen(id=team.id, name=team.name, members=list(team.members))


def grant_seen(grant: Grant) -> GrantSeen:
    return GrantSeen(
        id=grant.id,
        subject=grant.subject,
        repository=grant.pattern,
        source=grant.source,
        created=grant.created,
        expires=grant.expires,
    )


def token_seen(token: TokenRecord) -> TokenSeen:
    return TokenSeen(
        id=token.id,
        user=token.user,
        name=token.name,
        scopes=sorted(token.scopes),
        created=token.created,
        expires=token.expires,
        last_used=token.last_used,
        revoked=token.revoked,
    )
