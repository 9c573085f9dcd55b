"""Adapters that people have for themselves: who wants one, what it is called in the data directory, and its end.

Somebody who wants one is a file here, written when they ask and deleted when they take it back. Without it nothing is
trained, published or served, whatever else is left on the disk; so what is deleted first is that file.
"""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from homespun_core import storage
from homespun_core.errors import ConfigError
from homespun_core.paths import DataDir

logger = logging.getLogger(__name__)

_MARK = "+"
"""No directory name of a repository or of a shared adapter begins with it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """Somebody wants adapters trained on what they committed themselves."""

    user: str
    """Id of the account."""
    name: str
    authors: tuple[str, ...]
    """Hashes of their addresses, as in corpora."""
    since: float


def personal_id(user: str, repository: str) -> str:
    """Directory name of somebody's adapter for a repository."""
    return f"{_MARK}{user}{_MARK}{repository}"


def owner_of(id: str) -> str | None:
    """Whose adapter it is, by its directory name; None for one that isn't personal."""
    return id.split(_MARK, 2)[1] if id.startswith(_MARK) and id.count(_MARK) > 1 else None


def repository_of(id: str) -> str:
    """The repository that an adapter is for, by its directory name; a shared one stands for itself."""
    return id.split(_MARK, 2)[2] if owner_of(id) is not None else id


def wish_file(data: DataDir, user: str) -> Path:
    return data.root / "personal" / f"{user}.json"


def is_wanted(data: DataDir, user: str) -> bool:
    return wish_file(data, user).is_file()


def want(data: DataDir, wish: Wish) -> None:
    storage.write_atomic(wish_file(data, wish.user), json.dumps(asdict(wish), indent=1) + "\n")


def wishes(data: DataDir) -> list[Wish]:
    """By name. One that can't be read is nobody's wish."""
    found = [_read(path) for path in wish_file(data, "any").parent.glob("*.json")]
    return sorted((wish for wish in found if wish is not None), key=lambda wish: wish.name)


def wish_of(data: DataDir, word: str) -> Wish:
    """Of the user of that name or id. Raises ConfigError when they want none."""
    known = wishes(data)
    found = next((wish for wish in known if word in (wish.name, wish.user)), None)
    if found is None:
        others = f"; who does: {', '.join(wish.name for wish in known)}" if known else ""
        raise ConfigError(f"{word}: wants no adapter of their own; they ask for it with: homespun personal on{others}")
    return found


def take_back(data: DataDir, user: str) -> list[str]:
    """The wish, and all that was made of it. Returns the repositories that there was an adapter for. Killed on the way,
    `sweep` does the rest; a training run that goes on ends without an adapter."""
    wish_file(data, user).unlink(missing_ok=True)
    return [repository_of(id) for id in sweep(data) if owner_of(id) == user]


def sweep(data: DataDir) -> list[str]:
    """Deletes what nobody wants any more: adapters, corpora, runs. Returns the ids of the adapters."""
    gone = set()
    for place in _places(data):
        owner = owner_of(place.name)
        if owner is not None and not is_wanted(data, owner):
            (place / storage.CURRENT).unlink(missing_ok=True)  # servers let go of it at once
            shutil.rmtree(place, ignore_errors=True)
            if place == data.adapters(place.name):
                gone.add(place.name)
    return sorted(gone)


def adapters_of(data: DataDir, user: str) -> Sequence[Path]:
    """Where there is an adapter of theirs, by repository."""
    root = data.adapters("any").parent
    return sorted(p for p in root.iterdir() if owner_of(p.name) == user) if root.is_dir() else []


def _places(data: DataDir) -> Iterator[Path]:
    for of in (data.adapters, data.corpus, data.training_run, data.evaluations, data.retraining):
        root = of("any").parent
        yield from sorted(root.iterdir()) if root.is_dir() else ()


def _read(path: Path) -> Wish | None:
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        return Wish(**{**raw, "authors": tuple(raw["authors"])})
    except (OSError, ValueError, TypeError, KeyError) as error:
        logger.warning("%s: unreadable, so nobody's wish (%s)", path, error)
        return None
