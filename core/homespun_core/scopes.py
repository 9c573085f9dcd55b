"""Adapters that several repositories share (`[[adapter]]` tables): what they are called, and who may get one."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from homespun_core.errors import ConfigError
from homespun_core.repositories import RepositoryConfig, nearest

SCOPE_TABLE = "adapter"
ALL = "all"
UNKNOWN = "?"
"""Among the ids of what an adapter saw: it stands on one that doesn't say. No repository has it for an id."""
_KEYS = ("name", "repositories", "groups")
_MARK = "@"
"""No directory name of a repository (`paths.repo_id`) has it, so the two can't collide."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,39}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ScopeConfig:
    """A shared adapter: of a team or of all."""

    name: str
    repositories: tuple[RepositoryConfig, ...]
    groups: tuple[str, ...] = ()
    """Access groups that may get it, of those who may see all its repositories; empty is all of these."""

    @property
    def id(self) -> str:
        return scope_id(self.name)


def scope_id(name: str) -> str:
    """Its directory name in the data directory."""
    return f"{_MARK}{name.removeprefix(_MARK)}"


def is_scope(id: str) -> bool:
    return id.startswith(_MARK)


def lender(repository: str, live: Mapping[str, Collection[str]]) -> str | None:
    """Whose adapter somebody is served with in a repository, of those that are live and aren't kept back from them (by
    id, what each has seen): its own, else the closest shared one that saw it. None is the base model."""
    if repository in live:
        return repository
    fitting = [id for id, seen in live.items() if is_scope(id) and repository in seen]
    return min(fitting, key=lambda id: (len(live[id]), id), default=None)


def why_kept_back(id: str, seen: Collection[str], readable: Collection[str]) -> str | None:
    """Why somebody who may read these repositories (ids) may not have the adapter of that id, which has seen those;
    None if they may.

    An adapter gives away what it was trained on, so it goes only to people who may read all of it. Unknown means no;
    but one that doesn't say what it saw has seen its own repository, where it has one, which isn't asked about.
    """
    own = frozenset() if is_scope(id) else frozenset([id])
    seen = frozenset(seen) or own
    if not seen:
        return "doesn't say which repositories it was trained on"
    if UNKNOWN in seen and UNKNOWN not in readable:
        return "was trained on top of an adapter that doesn't say which repositories it saw"
    hidden = sorted((seen - own).difference(readable))
    return f"was trained on {', '.join(hidden)}, of which there is no index here" if hidden else None


def parse_scopes(value: object, origin: str, configured: Sequence[RepositoryConfig]) -> tuple[ScopeConfig, ...]:
    """The tables under `adapter` in a settings file called `origin` in the messages. Raises ConfigError."""
    if not isinstance(value, list) or not all(isinstance(table, dict) for table in value):
        raise ConfigError(f"{origin}: {SCOPE_TABLE}: is not a list of tables; write [[{SCOPE_TABLE}]] above each")
    found = tuple(_scope(table, f"{origin}: {SCOPE_TABLE} {n}", configured) for n, table in enumerate(value, 1))
    names = [scope.name for scope in found]
    for name in names:
        if names.count(name) > 1 or any(name == repo.name for repo in configured):
            raise ConfigError(f"{origin}: {SCOPE_TABLE}: name {name!r} is there twice; choose another for one of them")
    return found


def _scope(table: Mapping[str, object], where: str, configured: Sequence[RepositoryConfig]) -> ScopeConfig:
    for key in table:
        if key not in _KEYS:
            raise ConfigError(f"{where}: {key}: unknown key{nearest(key, _KEYS, 'keys')}")
    name = table.get("name")
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ConfigError(f"{where}: name: {name!r} is no name; write up to 40 letters, digits and any of . - _")
    repositories = _members(table.get("repositories"), f"{where}: repositories", configured)
    groups = _names(table.get("groups", []), f"{where}: groups")
    return ScopeConfig(name=name, repositories=repositories, groups=tuple(groups))


def _members(value: object, where: str, configured: Sequence[RepositoryConfig]) -> tuple[RepositoryConfig, ...]:
    known = {repo.name: repo for repo in configured if repo.name}
    wanted = dict.fromkeys(_names(value, where)) if value != ALL else {}
    for name in wanted:
        if name not in known:
            meant = nearest(name, known, "named repositories") if known else "; give [[repository]] tables a name"
            raise ConfigError(f"{where}: {name!r}: no [[repository]] has that name{meant}")
    members = tuple(configured) if value == ALL else tuple(known[name] for name in wanted)
    if len(members) < 2:
        raise ConfigError(f'{where}: {len(members)} of them; name at least two, or write "{ALL}"')
    return members


def _names(value: object, where: str) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise ConfigError(f"{where}: {value!r} is not a list of names; write it in [brackets]")
    return value
