"""What a candidate is held against: what those users have who don't get it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from homespun_core import registry, storage
from homespun_core.errors import StorageError
from homespun_core.scopes import is_scope, lender
from homespun_core.storage import Manifest


def control(place: Path, candidate: str, champion: str | None) -> str | None:
    """The champion; where a repository has none, what is lent there by the server's rule. None is the base model."""
    if champion is not None or is_scope(place.name):
        return champion
    base = _manifest(place / candidate)
    shared = {
        path.parent.name: (path.name, manifest.sources.get("repositories", "").split())
        for path, manifest in _shared(place.parent)
        if base is not None and manifest.sources.get("base_model") == base.sources.get("base_model")
    }
    found = lender(place.name, {id: seen for id, (_, seen) in shared.items()})
    return shared[found][0] if found else None


def _shared(root: Path) -> Iterator[tuple[Path, Manifest]]:
    for other in sorted(root.iterdir()):
        path = storage.current(other) if is_scope(other.name) else None
        manifest = _manifest(path) if path else None
        if path is not None and manifest is not None:
            yield path, manifest


def _manifest(path: Path) -> Manifest | None:
    """None of what is damaged, which isn't served."""
    try:
        return storage.read_manifest(path, registry.ADAPTER_KIND, registry.ADAPTER_FORMAT)
    except StorageError:
        return None
