"""What is special about somebody's own adapter: what it stands on, and that nothing but their lines is learned."""

from __future__ import annotations

import logging
from pathlib import Path

from homespun_core import registry
from homespun_core.errors import StorageError
from homespun_core.paths import DataDir
from homespun_core.registry import Adapter
from homespun_core.scopes import is_scope
from homespun_trainer.examples import Mix

logger = logging.getLogger(__name__)

OWN_LINES = Mix(file_only=0.2, is_own=True)
"""No example is left to right, since there the lines around are learned too, whoever wrote them."""


def beneath(data: DataDir, repository: str, base_digest: str) -> Path | None:
    """What everybody has there, as it is served; None is the base model."""
    found = served(data, repository, base_digest)
    return found.path if found else None


def served(data: DataDir, repository: str, base_digest: str) -> Adapter | None:
    """The adapter that is served in the repository to everybody: its own, else the closest shared one that saw it, as
    the server lends them."""
    own = live(data.adapters(repository), base_digest)
    if own is not None:
        return own
    root = data.adapters("any").parent
    shared = [live(place, base_digest) for place in sorted(root.glob("*")) if is_scope(place.name)]
    fitting = [a for a in shared if a is not None and repository in a.repositories]
    return min(fitting, key=lambda a: (len(a.repositories), a.path.parent.name)) if fitting else None


def live(place: Path, base_digest: str) -> Adapter | None:
    """What is live there, if it is whole and for this base model."""
    try:
        found = registry.live(place)
    except StorageError as error:
        logger.warning("left out: %s", error)
        return None
    return found if found is not None and found.base_digest == base_digest else None


def served_as(adapter: Path | None) -> str:
    """What servers call a version; nothing is the base model."""
    return f"{adapter.parent.name}/{adapter.name}" if adapter else ""
