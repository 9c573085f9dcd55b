"""What is live: follows the pointers in the data directory, swaps in new indexes and adapters off the request path."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TypeVar

from homespun_core import nudges, personal, registry, storage
from homespun_core.errors import ModelError, StorageError
from homespun_core.paths import DataDir
from homespun_core.registry import Adapter
from homespun_core.storage import Manifest
from homespun_core.types import SearchQuery, Tokenizer
from homespun_indexer.reader import IndexReader
from homespun_indexer.snapshot import FORMAT, KIND
from homespun_server.access.decisions import Guarded
from homespun_server.access.guarding import AdapterGroups, guarded, identity_of
from homespun_server.engine.protocol import Engine
from homespun_server.live import LiveRepository, lent
from homespun_server.own_adapters import Owned, Wardrobe, own_adapter, why_not_served
from homespun_server.rollout import state as rollout_state
from homespun_server.rollout.stages import ShadowUse, share_percent

logger = logging.getLogger(__name__)

_Opened = TypeVar("_Opened")

_POLL_S = 0.1
"""A pointer costs microseconds to read, and a saved file is to be found within 300 ms."""
_MAX_VIEWS = 256
_GRACE_S = 30.0
"""How long something replaced stays open for requests that chose it before: far above any completion's deadline."""


@dataclass(frozen=True, slots=True)
class _Failure:
    path: Path
    written_at: int
    reason: str


class SnapshotWatcher:
    """Holds what is live. `repositories` is replaced as a whole: a request that took it sees one state throughout."""

    def __init__(
        self,
        data: DataDir,
        *,
        tokenizer: Tokenizer,
        engine: Engine,
        base_digest: str,
        is_private: bool = True,
        on_index: Callable[[Manifest], None] | None = None,
        ask_for_index: Callable[[str], object] | None = None,
        canary_percent: float = 0.0,
        shadow: ShadowUse = "none",
        adapter_groups: AdapterGroups | None = None,
        poll_s: float = _POLL_S,
        grace_s: float = _GRACE_S,
    ) -> None:
        self.repositories: tuple[LiveRepository, ...] = ()
        self._found: tuple[LiveRepository, ...] = ()
        """As they are on disk, shared adapters among them."""
        self._kept_back: list[str] = []
        self._data, self._tokenizer, self._engine, self._base_digest = data, tokenizer, engine, base_digest
        self._is_private = is_private
        """Whether only people on this machine can reach this server."""
        self._on_index = on_index
        self._ask_for_index = ask_for_index
        """Makes a job, for where nobody watches the repository."""
        self._canary_percent, self._shadow = canary_percent, shadow
        self._adapter_groups = adapter_groups or {}
        self.guarded: tuple[Guarded, ...] = ()
        """What there is to read, shared adapters among it; the same tuple until something changes."""
        self._owned: Wardrobe = {}
        self._views: dict[frozenset[str], tuple[LiveRepository, ...]] = {}
        """By what somebody may read."""
        self._poll_s, self._grace_s = poll_s, grace_s
        self._failed: dict[Path, _Failure] = {}
        """By the directory whose pointer leads to it, or the file that does."""
        self._retired: list[tuple[float, Callable[[], None]]] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="snapshots", daemon=True)

    def start(self) -> None:
        """Load what is live now, then follow changes in a thread."""
        self.scan()
        self._thread.start()

    def close(self) -> None:
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()
        for _, release in self._retired:
            release()
        for repository in self._found:
            if repository.reader is not None:
                repository.reader.close()

    @property
    def problems(self) -> list[str]:
        """One line for each snapshot that is pointed to but can't or may not be used."""
        return [*(failure.reason for failure in self._failed.values()), *self._kept_back]

    def index_age_s(self) -> float | None:
        """Age of the oldest live index."""
        ages = [_age_s(r.reader.manifest.created) for r in self.repositories if r.reader is not None]
        return max(ages, default=None)

    def scan(self) -> None:
        """Bring `repositories` in line with the pointers. What can't be opened is logged once; the old one stays."""
        known = {r.id: r for r in self._found}
        roots = (self._data.index_root, self._data.all_adapters)
        names = sorted({folder for root in roots for folder in _folders(root) if self._is_wanted(folder)})
        self._failed = {parent: failure for parent, failure in self._failed.items() if parent.exists()}
        updated = [self._updated(known.pop(name, LiveRepository(id=name))) for name in names]
        for gone in known.values():
            self._retire(gone, LiveRepository(id=gone.id))
        found = tuple(r for r in updated if r.reader is not None or r.adapters)
        if found != self._found:
            self._found = found
            self._lend()
        self._release()

    def visible_to(self, readable: frozenset[str] | None) -> tuple[LiveRepository, ...]:
        """What is served to somebody who may read these: no other repository, and no adapter that saw another one."""
        if readable is None:
            return self.repositories
        views = self._views
        view = views.get(readable)
        if view is None:
            view, _ = lent(r for r in self._found if r.id in readable)
            if len(views) < _MAX_VIEWS:
                views[readable] = view
        return view

    def own_adapter(
        self, account: str | None, repository: LiveRepository, readable: frozenset[str] | None
    ) -> str | None:
        return own_adapter(self._owned, account, repository.id, repository.adapter, readable)

    def why_not_own(self, account: str, id: str, readable: frozenset[str] | None) -> str | None:
        """Why somebody isn't served with the adapter of their own that is live for a repository; None if they are."""
        repository = next((r for r in self.visible_to(readable) if r.id == id), None)
        mine = self._owned.get((account, id))
        if repository is None:
            return "is for a repository that you may not read"
        if mine is None:
            return "can't be used by this server; its admin sees why with: homespun status"
        return why_not_served(mine, repository.adapter, readable)

    def _is_wanted(self, id: str) -> bool:
        """Somebody's own is there as long as they want it, whatever is on the disk."""
        owner = personal.owner_of(id)
        return owner is None or personal.is_wanted(self._data, owner)

    def _lend(self) -> None:
        self._views = {}
        now = tuple(
            guarded(r.id, r.reader.manifest.sources if r.reader else None, self._adapter_groups)
            for r in self._found
            if personal.owner_of(r.id) is None
        )
        self._owned = {
            (owner, personal.repository_of(r.id)): Owned(adapter=r.adapter, on_top_of=r.adapter_on, saw=r.adapter_saw)
            for r in self._found
            if (owner := personal.owner_of(r.id)) is not None and r.adapter is not None
        }
        if now != self.guarded:
            self.guarded = now
        before = self._kept_back
        self.repositories, self._kept_back = lent(self._found, is_for_all=True)
        for line in self._kept_back:
            if line not in before:
                logger.warning("%s", line)

    def _follow(self) -> None:
        said = ""
        while not self._stop.wait(self._poll_s):
            try:
                self.scan()
                said = ""
            except OSError as error:  # of a machine that lacks something: one line, not ten tracebacks a second
                if str(error) != said:
                    logger.error("looking for new snapshots failed: %s", error)
                said = str(error)
            except Exception:  # a job loop: one bad round must not end the following
                logger.exception("looking for new snapshots failed")

    def _updated(self, now: LiveRepository) -> LiveRepository:
        new = self._with_candidate(self._with_adapter(self._with_index(now)))
        self._retire(now, new)
        return new

    def _with_index(self, now: LiveRepository) -> LiveRepository:
        parent = self._data.index(now.id)
        path = self._news(parent, now.index_path)
        if path is None:
            return now if _is_published(parent) else replace(now, reader=None, index_path=None)
        earlier = [] if now.reader else _earlier(path)
        found = self._first_whole((path, *earlier), lambda path: self._open_index(path, now.reader))
        if found is None:
            return now
        path, reader = found
        sources = reader.manifest.sources
        logger.info("index of %s: generation %s is live", now.id, path.name)
        if self._on_index is not None:
            self._on_index(reader.manifest)
        return replace(
            now,
            identity=sources.get("repository"),
            name=sources.get("name"),
            remotes=frozenset(filter(None, map(identity_of, sources.get("git_urls", "").split()))),
            reader=reader,
            index_path=path,
        )

    def _open_index(self, path: Path, previous: IndexReader | None) -> IndexReader:
        """Warm: the first search reads its files from the disk, which took longer than a completion waits for it."""
        reader = IndexReader.open(path, self._tokenizer, previous)
        owner = reader.manifest.sources.get("uncommitted_of")
        if owner and not self._is_private:
            raise StorageError(
                f"{path}: holds what {owner} has saved and not committed, and others can reach this server (host or"
                " public_url); index a clone, or with --no-uncommitted"
            )
        reader.search(SearchQuery(prefix="import os\n", suffix="", path=None, language=None), 1)
        return reader

    def _with_adapter(self, now: LiveRepository) -> LiveRepository:
        parent = self._data.adapters(now.id)
        path = self._news(parent, now.adapter_path)
        if path is None:
            return now if _is_published(parent) else replace(now, adapter=None, adapter_path=None)
        earlier = [] if now.adapter else _past_champions(parent)
        found = self._first_whole((path, *earlier), lambda path: self._load_adapter(now.id, path))
        if found is None:
            return now
        path, (name, of) = found
        logger.info("adapter of %s: version %s is live", now.id, path.name)
        return replace(now, adapter=name, adapter_path=path, adapter_saw=of.repositories, adapter_on=of.on_top_of)

    def _with_candidate(self, now: LiveRepository) -> LiveRepository:
        path = self._candidate(self._data.adapters(now.id))
        if path is None:
            return replace(now, candidate=None, candidate_path=None)
        state = rollout_state.read(path.parent)
        percent = share_percent(state, path.name, self._canary_percent, self._shadow)
        if path == now.candidate_path:
            return replace(now, canary_percent=percent)
        loaded = self._tried(path, lambda path: self._load_adapter(now.id, path), path.parent / registry.ALIASES)
        if loaded is None:
            return replace(now, candidate=None, candidate_path=None)
        name, of = loaded
        logger.info("adapter of %s: version %s is tried by %g %% of the users", now.id, path.name, percent)
        return replace(now, candidate=name, candidate_path=path, candidate_saw=of.repositories, canary_percent=percent)

    def _candidate(self, adapters: Path) -> Path | None:
        """None also while the names can't be read: nobody gets an adapter that may have been rejected."""
        if not self._canary_percent and self._shadow == "none":
            return None
        try:
            candidate = registry.aliases(adapters).candidate
        except StorageError:  # `homespun adapters` says what is wrong
            return None
        if candidate is None:
            self._failed.pop(adapters / registry.ALIASES, None)
        return adapters / candidate if candidate else None

    def _load_adapter(self, repo: str, path: Path) -> tuple[str, Adapter]:
        """With its name in the engine."""
        adapter = registry.load_adapter(path)
        if adapter.base_digest != self._base_digest:
            raise ModelError(f"{path}: was trained on another base model; run `homespun train` with this one")
        name = f"{repo}/{adapter.version}"
        self._engine.load_adapter(name, path)
        return name, adapter

    def _news(self, parent: Path, now: Path | None) -> Path | None:
        """The snapshot to change to; None when nothing changed, or while it isn't whole (it is being built again)."""
        path = storage.current(parent)
        if path == now:
            self._failed.pop(parent, None)
            return None
        return path

    def _first_whole(
        self, paths: Sequence[Path], open_snapshot: Callable[[Path], _Opened]
    ) -> tuple[Path, _Opened] | None:
        """Of the current snapshot and, where none is loaded yet, those before it."""
        current, *earlier = paths
        for path in (current, *(path for path in earlier if path != current)):
            opened = self._tried(path, open_snapshot, None if path == current else path)
            if opened is not None:
                return path, opened
        return None

    def _tried(
        self, path: Path, open_snapshot: Callable[[Path], _Opened], pointer: Path | None = None
    ) -> _Opened | None:
        """A snapshot that failed is tried again only after it was written again."""
        pointer = pointer or path.parent
        written_at, failed = _written_at(path), self._failed.get(pointer)
        if failed is not None and (failed.path, failed.written_at) == (path, written_at):
            return None
        try:
            opened = open_snapshot(path)
        except Exception as error:  # noqa: BLE001 - one snapshot, whatever is wrong with it, must not hold up the others
            self._ask_for_another(path)
            self._failed[pointer] = _Failure(path, written_at, str(error))
            logger.warning("not used, the one before stays: %s", error)
            return None
        self._failed.pop(pointer, None)
        return opened

    def _ask_for_another(self, path: Path) -> None:
        """Whoever indexes this repository looks at once, and builds again what is damaged."""
        repo = path.parent.name
        if path.parent.parent == self._data.index_root:
            with suppress(OSError):  # a disk that is full or read-only keeps nobody from being served
                nudges.nudge(self._data, repo)
                if self._ask_for_index is not None and not nudges.is_read(self._data, repo):
                    self._ask_for_index(repo)

    def _retire(self, old: LiveRepository, new: LiveRepository) -> None:
        due = time.monotonic() + self._grace_s
        if old.reader is not None and old.reader is not new.reader:
            self._retired.append((due, old.reader.close))
        for name in old.adapters - new.adapters:
            self._retired.append((due, partial(self._unload, name)))

    def _unload(self, name: str) -> None:
        if all(name not in r.adapters for r in self._found):  # a rollback may have made it live again
            self._engine.unload_adapter(name)

    def _release(self) -> None:
        now = time.monotonic()
        due = [release for at, release in self._retired if at <= now]
        self._retired = [entry for entry in self._retired if entry[0] > now]
        for release in due:
            release()


def _folders(root: Path) -> Iterator[str]:
    if root.is_dir():
        yield from (path.name for path in root.iterdir() if path.is_dir())


def _earlier(path: Path) -> list[Path]:
    """Generations before this one that are for the same people to read."""
    try:
        who = _readers(path)
    except StorageError:
        return []
    found = []
    for other in storage.others(path.parent):
        with suppress(StorageError):
            found += [other] if _readers(other) == who else []
    return found


def _readers(index: Path) -> tuple[str | None, ...]:
    sources = storage.read_manifest(index, KIND, FORMAT).sources
    return tuple(sources.get(name) for name in ("repository", "groups", "uncommitted_of"))


def _past_champions(adapters: Path) -> list[Path]:
    try:
        return [adapters / version for version in registry.aliases(adapters).past]
    except StorageError:  # `homespun adapters` says what is wrong
        return []


def _is_published(parent: Path) -> bool:
    return (parent / storage.CURRENT).is_file()


def _written_at(snapshot: Path) -> int:
    try:
        return (snapshot / storage.MANIFEST).stat().st_mtime_ns
    except FileNotFoundError:
        return 0


def _age_s(created: str) -> float:
    return (datetime.now(UTC) - datetime.fromisoformat(created)).total_seconds()
