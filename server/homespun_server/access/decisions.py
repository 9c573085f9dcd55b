"""Who may do what, and who may read what: every decision about access, as functions of values."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Literal

from homespun_server.access.principal import Principal, Role, Scope
from homespun_server.access.records import Credential, Grant, Person

Action = Literal[
    "complete", "read-index", "read-metrics", "read-usage", "read-audit", "manage-repositories", "manage-people"
]

_WHO: Mapping[Action, tuple[Scope, frozenset[Role]]] = {
    "complete": ("complete", frozenset(("developer", "repo-admin", "admin"))),
    "read-index": ("index:read", frozenset(("developer", "repo-admin", "admin"))),
    "read-metrics": ("index:read", frozenset(("auditor", "admin"))),
    "read-usage": ("admin", frozenset(("auditor", "admin"))),
    "read-audit": ("admin", frozenset(("auditor", "admin"))),
    "manage-repositories": ("admin", frozenset(("repo-admin", "admin"))),
    "manage-people": ("admin", frozenset(("admin",))),
}
"""What an action takes: a scope of the token, and a role of its user. A repository is managed by who may read it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Guarded:
    """A repository, or a shared adapter (`@name`), as far as access to it goes."""

    id: str
    name: str | None = None
    addresses: frozenset[str] = frozenset()
    """`host/owner/name` of its remotes, or its path."""
    groups: frozenset[str] | None = frozenset()
    """Of the settings; none is whatever `default_access` says. None where they aren't known: there is no index of it,
    or the settings don't have this adapter."""
    is_uncommitted: bool = False
    """Whether it holds what somebody has saved and not committed."""
    is_adapter: bool = False


@dataclass(frozen=True, slots=True)
class Verdict:
    allowed: bool
    why: str
    """In words that go on after the user's name."""


def may(principal: Principal, action: Action) -> bool:
    scope, roles = _WHO[action]
    return scope in principal.scopes and principal.role in roles


def principal_for(
    person: Person, credential: Credential, guarded: Iterable[Guarded], is_open: bool, now: float
) -> Principal:
    user = person.user
    return Principal(
        user=user.id,
        name=user.name,
        role=user.role,
        scopes=credential.scopes,
        readable=readable_by(person, guarded, is_open, now),
        credential=credential.id,
    )


def readable_by(person: Person, guarded: Iterable[Guarded], is_open: bool, now: float) -> frozenset[str] | None:
    """Ids; None is all there are."""
    if person.user.active and person.user.role == "admin":
        return None
    return frozenset(g.id for g in guarded if verdict_on(person, g, is_open, now).allowed)


def verdict_on(person: Person, guarded: Guarded, is_open: bool, now: float) -> Verdict:
    """Whether somebody may read a repository at a time, and why. `is_open`: one without groups is everyone's."""
    user = person.user
    if not user.active:
        return Verdict(False, "is deactivated")
    if user.role == "admin":
        return Verdict(True, "is an admin")
    if user.role == "auditor":
        return Verdict(False, "is an auditor, who reads no code")
    if guarded.is_adapter:
        return _having(person, guarded)
    grants = [g for g in person.grants if _covers(g, guarded, now)]
    if guarded.is_uncommitted:
        own = any(g.subject.startswith("user:") and g.pattern == guarded.id for g in grants)
        return Verdict(own, "has a grant of its own for" if own else "is not its author: it holds uncommitted work")
    if grants:
        return Verdict(True, f"has the grant {grants[0].pattern!r} of {grants[0].subject} ({grants[0].source})")
    return _by_groups(person, guarded, is_open)


def _by_groups(person: Person, guarded: Guarded, is_open: bool) -> Verdict:
    groups = guarded.groups
    if groups is None:
        return Verdict(False, "has no grant for it; its groups aren't known without an index of it")
    if common := sorted(groups & person.teams):
        return Verdict(True, f"is in {common[0]}, one of its groups in the settings")
    if groups:
        return Verdict(False, f"is in none of its groups ({', '.join(sorted(groups))}) and has no grant for it")
    if is_open:
        return Verdict(True, "may, as everyone: it has no groups, and default_access is everyone")
    return Verdict(False, "has no grant for it; it has no groups, and default_access is nobody")


def _having(person: Person, adapter: Guarded) -> Verdict:
    """A shared adapter. That all it was trained on may be read is checked apart."""
    if adapter.groups is None:
        return Verdict(False, "can't have it: no [[adapter]] of the settings has that name")
    if adapter.groups and not adapter.groups & person.teams:
        return Verdict(False, f"is in none of its groups ({', '.join(sorted(adapter.groups))})")
    return Verdict(True, "may have it, if all that it was trained on may be read")


def _covers(grant: Grant, guarded: Guarded, now: float) -> bool:
    if grant.expires is not None and grant.expires <= now:
        return False
    names = {guarded.id, guarded.name or guarded.id, *guarded.addresses}
    return any(name == grant.pattern or fnmatchcase(name, grant.pattern) for name in names)
