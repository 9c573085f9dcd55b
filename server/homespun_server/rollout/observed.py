"""The outcomes that count for a repository's adapters, or for those that several repositories share."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from homespun_core import registry, storage
from homespun_core.outcomes import Outcome
from homespun_core.scopes import is_scope
from homespun_server.feedback.store import FeedbackStore


def observed(
    store: FeedbackStore, place: Path, version: str, since: float, until: float | None = None
) -> Sequence[Outcome]:
    """Of the repository of these adapters; of shared ones, of all repositories that `version` may be lent to."""
    if not is_scope(place.name):
        return store.outcomes(place.name, since, until)
    manifest = storage.read_manifest(place / version, registry.ADAPTER_KIND, registry.ADAPTER_FORMAT)
    seen = manifest.sources.get("repositories", "").split()
    return [o for o in store.outcomes(None, since, until) if o.repository in seen]
