"""What the database says of people and their rights, as values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from homespun_server.access.principal import Role, Scope

Source = Literal["config", "oidc", "scim", "forge", "admin"]
"""Who says so. What one source says, only that one takes back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    id: str
    name: str
    email: str | None
    role: Role
    active: bool
    created: float
    erased: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Team:
    id: str
    name: str
    members: tuple[str, ...]
    """Names of users."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """Somebody may read the repositories that a pattern names."""

    id: str
    subject: str
    """`user:NAME` or `team:NAME`."""
    pattern: str
    """A repository's id, or a glob of its name or its address without scheme (`git.example.com/shop/*`)."""
    source: Source
    created: float
    expires: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRecord:
    """A token without its secret, which is stored nowhere."""

    id: str
    user: str
    """Name."""
    name: str
    scopes: frozenset[Scope]
    created: float
    expires: float | None
    last_used: float | None
    revoked: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """All that decides what somebody may do."""

    user: User
    teams: frozenset[str]
    """Names."""
    grants: tuple[Grant, ...]
    """Their own and their teams'."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Credential:
    """A token or session that was shown, and is one of ours."""

    id: str
    user: str
    """Id."""
    scopes: frozenset[Scope]
    expires: float | None = None
