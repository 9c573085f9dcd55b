"""What there is to read, from what its index says of it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping

from homespun_core import storage
from homespun_core.paths import DataDir, repo_identity
from homespun_core.personal import owner_of
from homespun_core.scopes import ScopeConfig, is_scope
from homespun_server.access.decisions import Guarded

AdapterGroups = Mapping[str, frozenset[str]]
"""Of the shared adapters in the settings, by id."""


def adapter_groups(scopes: Iterable[ScopeConfig]) -> AdapterGroups:
    return {scope.id: frozenset(scope.groups) for scope in scopes}


def guarded(id: str, sources: Mapping[str, str] | None, of_adapters: AdapterGroups) -> Guarded:
    """`sources`: of its index; None where there is none."""
    if is_scope(id):
        return Guarded(id=id, groups=of_adapters.get(id), is_adapter=True)
    if sources is None:
        return Guarded(id=id, groups=None)
    addresses = (sources.get("repository"), *map(identity_of, sources.get("git_urls", "").split()))
    return Guarded(
        id=id,
        name=sources.get("name"),
        addresses=frozenset(filter(None, addresses)),
        groups=frozenset(filter(None, sources.get("groups", "").split("\n"))),
        is_uncommitted=bool(sources.get("uncommitted_of")),
    )


def on_disk(data: DataDir, of_adapters: AdapterGroups) -> tuple[Guarded, ...]:
    """Without a server: as its settings and indexes stand now."""
    roots = (data.index_root, data.all_adapters)
    names = sorted({path.name for root in roots if root.is_dir() for path in root.iterdir() if path.is_dir()})
    return tuple(guarded(name, _sources(data, name), of_adapters) for name in names if owner_of(name) is None)


def identity_of(address: str) -> str | None:
    try:
        return repo_identity(address)
    except (ValueError, RuntimeError, OSError):  # a NUL in it, the home of an unknown user, a loop of links
        return None


def _sources(data: DataDir, id: str) -> Mapping[str, str] | None:
    snapshot = storage.current(data.index(id))
    if snapshot is None:
        return None
    try:
        sources = json.loads((snapshot / storage.MANIFEST).read_text(encoding="utf-8"))["sources"]
        return {str(name): str(value) for name, value in sources.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
