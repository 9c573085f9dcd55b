"""What in the data directory holds something that is to be forgotten, and taking it away."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from homespun_core import registry, storage
from homespun_core.paths import DataDir
from homespun_core.registry import REPORT
from homespun_core.storage import MANIFEST, locked
from homespun_trainer import trained_on

Covers = Callable[[str, Iterable[str]], bool]
"""Whether a file, by path and hashes of its authors, is to be forgotten."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Effect:
    """On one repository."""

    repository: str
    """Id in the data directory."""
    adapters: tuple[Path, ...]
    """Versions that were trained on it, or don't say what they were trained on."""
    is_live: bool
    """Whether one of them is in service."""
    corpora: tuple[Path, ...]
    run: Path | None
    """The unfinished training run: what it has seen can't be told from its weights."""

    def __bool__(self) -> bool:
        return bool(self.adapters or self.corpora or self.run)


def effects(data: DataDir, repositories: Iterable[str], covers: Covers) -> list[Effect]:
    """Of those repositories that hold something of it, sorted."""
    found = [_effect(data, repository, covers) for repository in sorted(set(repositories))]
    return [effect for effect in found if effect]


def known_repositories(data: DataDir) -> list[str]:
    """Ids of all that were ever trained on here."""
    roots = (data.adapters("any").parent, data.corpus("any").parent, data.training_run("any").parent)
    return sorted({folder.name for root in roots if root.is_dir() for folder in root.iterdir() if folder.is_dir()})


def _effect(data: DataDir, repository: str, covers: Covers) -> Effect:
    adapters = tuple(p for p in _snapshots(data.adapters(repository)) if _adapter_holds(p, covers))
    corpora = tuple(p for p in _snapshots(data.corpus(repository)) if _corpus_holds(p, covers))
    run = data.training_run(repository)
    return Effect(
        repository=repository,
        adapters=adapters,
        is_live=storage.current(data.adapters(repository)) in adapters,
        corpora=corpora,
        run=run if run.is_dir() and (adapters or corpora or not _snapshots(data.corpus(repository))) else None,
    )


def _snapshots(parent: Path) -> list[Path]:
    """By name, and so by age."""
    return sorted(path.parent for path in parent.glob(f"*/{MANIFEST}") if not path.parent.name.startswith("."))


def _adapter_holds(path: Path, covers: Covers) -> bool:
    """One that is damaged, or was made before adapters said what they were trained on, may hold anything."""
    sources = trained_on.read(path)
    return sources is None or any(covers(source.path, source.authors) for source in sources)


def _corpus_holds(path: Path, covers: Covers) -> bool:
    try:
        return any(covers(row["path"], row["authors"]) for row in _rows(path / "documents.jsonl"))
    except (OSError, ValueError, KeyError, TypeError):
        return True


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8") as handle:
        yield from map(json.loads, handle)


def take_away(data: DataDir, effect: Effect) -> None:
    """Killed in between, the same call goes on. The adapter in service goes last of the adapters: the registry puts the
    one before in its place, which must not be one that goes, too.

    Raises StorageError while a training run on the repository goes on.
    """
    with locked(data.locks / f"train-{effect.repository}.lock", f"training on {effect.repository}"):
        live = storage.current(data.adapters(effect.repository))
        for path in sorted(effect.adapters, key=lambda path: path == live):
            registry.retire(path.parent, path.name, by=registry.whoami(), why="forgotten")
        if effect.run is not None:
            shutil.rmtree(effect.run, ignore_errors=True)
        for path in effect.corpora:
            if storage.current(path.parent) == path:
                (path.parent / storage.CURRENT).unlink(missing_ok=True)
            storage.remove(path)


def source_of(effect: Effect) -> str | None:
    """The repository's identity: its path, or host and path of its URL. None when nothing says so."""
    said = [(path / MANIFEST, "sources") for path in effect.corpora]
    said += [(path / REPORT, "corpus") for path in effect.adapters]
    for file, key in said:
        try:
            return str(json.loads(file.read_text(encoding="utf-8"))[key]["repository"])
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return None
