"""What is special about somebody's own adapter: what it stands on, and that nothing but their lines is learned."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

from homespun_core import registry
from homespun_core.errors import StorageError
from homespun_core.paths import DataDir
from homespun_core.personal import Wish
from homespun_core.registry import Adapter
from homespun_core.scopes import is_scope, lender, why_kept_back
from homespun_trainer.examples import Mix

logger = logging.getLogger(__name__)

OWN_LINES = Mix(file_only=0.2, is_own=True)
"""No example is left to right, since there the lines around are learned too, whoever wrote them."""


def beneath(data: DataDir, repository: str, base_digest: str, wish: Wish | None = None) -> Path | None:
    """What they have there who don't get the one to be trained; None is the base model."""
    found = served(data, repository, base_digest, wish)
    return found.path if found else None


def served(data: DataDir, repository: str, base_digest: str, wish: Wish | None = None) -> Adapter | None:
    """The adapter that is served in the repository, by the server's own rule: to those from whom nothing is kept, or to
    whoever has that wish, their own aside."""
    return lent_to(wish, repository, live_for(data, repository, base_digest))


def live_for(data: DataDir, repository: str, base_digest: str) -> Mapping[str, Adapter]:
    """What may be served in the repository, by id: its own and all shared ones. Reads every byte of them."""
    root = data.all_adapters
    places = [data.adapters(repository), *sorted(place for place in root.glob("*") if is_scope(place.name))]
    return {place.name: adapter for place in places if (adapter := live(place, base_digest)) is not None}


def lent_to(wish: Wish | None, repository: str, live: Mapping[str, Adapter]) -> Adapter | None:
    """As `served`, of these."""
    allowed = {id: a for id, a in live.items() if wish is None or _may_have(wish, repository, a)}
    closest = lender(repository, {id: adapter.repositories for id, adapter in allowed.items()})
    return allowed[closest] if closest else None


def _may_have(wish: Wish, repository: str, adapter: Adapter) -> bool:
    """As long as no server has said what they may read, only what has seen nothing but the repository."""
    id, may_have = adapter.path.parent.name, wish.may_have or ()
    return id in (repository, *may_have) and why_kept_back(id, adapter.repositories, may_have) is None


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
