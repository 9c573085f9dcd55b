"""What in the data directory holds something that is to be forgotten, and taking it away."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, Protocol

from homespun_core import registry, storage
from homespun_core.errors import StorageError
from homespun_core.paths import DataDir
from homespun_core.personal import repository_of
from homespun_core.registry import REPORT
from homespun_core.scopes import is_scope
from homespun_core.storage import MANIFEST, locked
from homespun_trainer import trained_on


class Wanted(Protocol):
    """What is to be forgotten."""

    def is_about(self, repository: str) -> bool: ...

    def covers(self, names: tuple[str, ...], authors: Iterable[str]) -> bool:
        """Of a file, by all its paths and hashes of its authors, in a repository that it is about."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Effect:
    """On one repository, or on an adapter that several share."""

    repository: str
    """Id in the data directory, of either."""
    adapters: tuple[Path, ...]
    """Versions that were trained on it, or may have had it in prompts, or don't say."""
    is_live: bool
    """Whether one of them is in service."""
    corpora: tuple[Path, ...]
    run: Path | None
    """The unfinished training run: what it has seen can't be told from its weights."""
    evaluations: Path | None = None
    """Scores and pages of `homespun eval`: they hold what models wrote at places, without saying where those are."""

    def __bool__(self) -> bool:
        return bool(self.adapters or self.corpora or self.run or self.evaluations)


def effects(data: DataDir, repositories: Iterable[str], wanted: Wanted) -> list[Effect]:
    """Of those repositories and shared adapters that hold something of it, sorted."""
    found = [_effect(data, repository, wanted) for repository in sorted(set(repositories))]
    return [effect for effect in found if effect]


def known_repositories(data: DataDir) -> list[str]:
    """Ids of all that were ever trained on here."""
    roots = [of("any").parent for of in (data.adapters, data.corpus, data.training_run, data.evaluations)]
    return sorted({folder.name for root in roots if root.is_dir() for folder in root.iterdir() if folder.is_dir()})


def _effect(data: DataDir, repository: str, wanted: Wanted) -> Effect:
    is_about = wanted.is_about(repository_of(repository))
    is_about_here = is_scope(repository) or is_about
    adapters = tuple(p for p in _snapshots(data.adapters(repository)) if _adapter_holds(p, repository, wanted))
    known = _snapshots(data.corpus(repository))
    corpora = tuple(p for p in known if is_about and _corpus_holds(p, wanted))
    run, evaluations = data.training_run(repository), data.evaluations(repository)
    may_hold = adapters or _has_others(run) or (is_about_here and (corpora or not known))
    return Effect(
        repository=repository,
        adapters=adapters,
        is_live=storage.current(data.adapters(repository)) in adapters,
        corpora=corpora,
        run=run if run.is_dir() and may_hold else None,
        evaluations=evaluations if is_about and evaluations.is_dir() else None,
    )


def _snapshots(parent: Path) -> list[Path]:
    """By name, and so by age."""
    return sorted(path.parent for path in parent.glob(f"*/{MANIFEST}") if not path.parent.name.startswith("."))


def _adapter_holds(path: Path, repository: str, wanted: Wanted) -> bool:
    """One that is damaged, or was made before adapters said what they were trained on, may hold anything of its
    repository; of any repository, where several share it."""
    sources = trained_on.read(path)
    if sources is None:
        return is_scope(repository) or _is_on_others(path) or wanted.is_about(repository_of(repository))
    return any(wanted.is_about(s.repository or repository) and wanted.covers(s.all_names, s.authors) for s in sources)


def _is_on_others(path: Path) -> bool:
    """Whether it was trained on top of an adapter from elsewhere, which may have seen anything."""
    try:
        parents = [str(parent["name"]) for parent in registry.read_report(path)["training"]["parents"]]
    except (StorageError, KeyError, TypeError):
        return False
    homes = (path.parent, path.parent.with_name(repository_of(path.parent.name)))
    return not all(any((home / name).is_dir() for home in homes) for name in parents)


def _has_others(run: Path) -> bool:
    """Whether the weights of an adapter from elsewhere are in it: those of one that was trained on top of it."""
    return any(run.rglob(trained_on.COMPOSED))


def _corpus_holds(path: Path, wanted: Wanted) -> bool:
    """Or whether what is trained with it may have snippets of that in prompts, or is judged by it. One that doesn't say
    so, as it was made earlier, may hold anything."""
    try:
        shown = (row for row in _rows(path / "files.jsonl") if row["is_shown"])
        files = chain(shown, _rows(path / "asked.jsonl"))
        return any(wanted.covers((row["path"], *row["names"]), row["authors"]) for row in files)
    except (OSError, ValueError, KeyError, TypeError):
        return True


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8") as handle:
        yield from map(json.loads, handle)


def take_away(data: DataDir, effect: Effect) -> None:
    """The adapter in service first: servers go back to an earlier one that knows nothing of it, or to the base model,
    within a second. Killed in between, the same call goes on.

    Raises StorageError while a training run on the repository goes on, which may take hours: then adapters are gone,
    and what it works with isn't.
    """
    if effect.adapters:
        doomed = [path.name for path in effect.adapters]
        registry.retire(data.adapters(effect.repository), doomed, by=registry.whoami(), why="homespun forget")
    with locked(data.locks / f"train-{effect.repository}.lock", f"training on {effect.repository}"):
        if effect.run is not None:
            shutil.rmtree(effect.run, ignore_errors=True)
        for path in effect.corpora:
            _drop(path)
    if effect.evaluations is not None:
        with locked(data.locks / f"eval-{effect.repository}.lock", f"evaluation of {effect.repository}"):
            shutil.rmtree(effect.evaluations, ignore_errors=True)


def take_rest_away(data: DataDir, wanted: Wanted) -> None:
    """All that is left of it here, whoever began. Raises StorageError where a training goes on; all else is gone."""
    problems = []
    for effect in effects(data, known_repositories(data), wanted):
        try:
            take_away(data, effect)
        except StorageError as error:
            problems.append(error)
    sweep(data)
    if problems:
        raise problems[0]


def sweep(data: DataDir) -> None:
    """What was being deleted when a process was killed has another name by then."""
    for repository in known_repositories(data):
        for parent in (data.adapters(repository), data.corpus(repository)):
            if parent.is_dir():
                storage.sweep(parent)


def _drop(snapshot: Path) -> None:
    """Out of use, then deleted."""
    if storage.current(snapshot.parent) == snapshot:
        (snapshot.parent / storage.CURRENT).unlink(missing_ok=True)
    storage.remove(snapshot)


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
