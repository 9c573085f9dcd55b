"""What an adapter consists of: itself and all that it stands on, down to the base model. Its weights know what any of
these has learned, and lines that they know tell nothing of how good it is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from homespun_core import registry, storage
from homespun_core.errors import StorageError
from homespun_core.paths import DataDir
from homespun_core.scopes import UNKNOWN
from homespun_core.types import EvalTask
from homespun_trainer.heads import corpus_of, held_out_of
from homespun_trainer.job import CommitsAfter
from homespun_trainer.stacking import digest_of

HasLearned = Callable[[EvalTask], bool]


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    report: Mapping[str, Any] = field(default_factory=dict)
    """Empty where there is none."""
    repositories: frozenset[str] = frozenset()
    """Ids of all that it has seen, with what it stands on; empty where it doesn't say."""

    def has_learned(self, repository: str, commits_after: CommitsAfter) -> HasLearned | None:
        """Whether it was trained on what stands at a place of the repository (an id): it knows all that was written up
        to its own cut, but for files held out. None where it doesn't say what it saw, or names no commit of the main
        line, as one that was made before history was rewritten."""
        if self._never_saw(repository):
            return lambda task: False
        cut, held_out = self.cut(repository), held_out_of(self.report, repository)
        later = commits_after(cut) if cut else None
        return None if later is None else lambda task: task.commit not in later and task.path not in held_out

    def cut(self, repository: str) -> str | None:
        """The commit up to which it knows the repository."""
        cut = None if self._never_saw(repository) else corpus_of(self.report, repository).get("commit")
        return str(cut) if cut else None

    def _never_saw(self, repository: str) -> bool:
        if corpora := self.report.get("corpora"):
            return repository not in corpora
        return bool(self.repositories) and not self.repositories & {repository, UNKNOWN}


def lineage_of(adapter: Path | None, data: DataDir) -> dict[str, Member]:
    """Itself first; nothing of the base model. What two adapters have in common has the same key in both. What is gone,
    or was never in the data directory, says nothing."""
    if adapter is None:
        return {}
    sources, report = _sources(adapter), _report(adapter)
    seen = frozenset(sources.get("repositories", "").split())
    found = {_key(adapter, data): Member(report=report, repositories=seen)}
    for name, digest in _beneath(sources, report).items():
        below = _version(name, adapter.parent, data)
        found |= {digest: Member()} if below in (None, adapter) else lineage_of(below, data)
    return found


def _beneath(sources: Mapping[str, str], report: Mapping[str, Any]) -> dict[str, str]:
    """Name -> digest of its weights, by the report; of somebody's own the manifest has its name."""
    served = sources.get("on_top_of", "")
    parents = (report.get("training") or {}).get("parents") or ()
    named = {served.rpartition("/")[2]: served} if served else {}
    return named | {str(parent["name"]): str(parent.get("digest") or parent["name"]) for parent in parents}


def _version(name: str, home: Path, data: DataDir) -> Path | None:
    """Versions are named by time and content: no two places have the same."""
    homes = [home, *sorted(data.all_adapters.glob("*"))]
    found = (place / name for place in homes if Path(name).name == name)
    return next((path for path in found if (path / storage.MANIFEST).is_file()), None)


def _key(adapter: Path, data: DataDir) -> str:
    """Of one from elsewhere, what reports of those on top of it say: where it was they don't."""
    place = adapter.resolve()
    is_elsewhere = place.parent.parent != data.all_adapters.resolve()
    return (digest_of(adapter) if is_elsewhere else None) or str(place)


def _report(adapter: Path) -> Mapping[str, Any]:
    with suppress(StorageError):
        return registry.read_report(adapter)
    return {}


def _sources(adapter: Path) -> Mapping[str, str]:
    with suppress(StorageError):
        return storage.read_manifest(adapter, registry.ADAPTER_KIND, registry.ADAPTER_FORMAT).sources
    return {}
