"""What came of the completions that count for a repository's adapters, or for those that several repositories share."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

from homespun_core import registry, storage
from homespun_core.scopes import is_scope
from homespun_server.feedback.store import FeedbackStore
from homespun_server.feedback.tallies import Arm


def observed(
    store: FeedbackStore,
    place: Path,
    version: str,
    adapters: Collection[str | None],
    since: float,
    until: float | None = None,
) -> Mapping[str | None, Arm]:
    """By adapter. In the repository of these adapters; of shared ones, in all that `version` may be lent to."""
    return store.by_adapter(adapters, _repositories(place, version), since, until)


def _repositories(place: Path, version: str) -> Collection[str]:
    if not is_scope(place.name):
        return [place.name]
    manifest = storage.read_manifest(place / version, registry.ADAPTER_KIND, registry.ADAPTER_FORMAT)
    return manifest.sources.get("repositories", "").split()
