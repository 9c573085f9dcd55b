"""From a repository to its index: only what changed is read, and the result is published whole, by rename.

A snapshot's name is a digest of its content (path, blob and language of every candidate) and of the options that shape
its bytes, so equal work is recognised before it is done. Snapshots of the current state lie in `index/<repo>/`, those
of a given commit (for training, say) in `index/<repo>/frozen/`, where newer states don't push them out.
"""

from __future__ import annotations

import logging
import os
import pwd
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

from homespun_core import storage
from homespun_core.config import Settings
from homespun_core.errors import NoSourceFiles, RepositoryError, StorageError
from homespun_core.paths import DataDir
from homespun_core.progress import Checked
from homespun_core.storage import Manifest
from homespun_core.types import ModelFiles, Progress, Tokenizer
from homespun_indexer import files, filters, layout, records
from homespun_indexer.build import Job, SpareBuilder, build_segments
from homespun_indexer.chunks import MAX_CHARS, MAX_LINES
from homespun_indexer.embedders import absolute, load_embedder
from homespun_indexer.files import Candidate
from homespun_indexer.history import last_changed
from homespun_indexer.processes import num_processes
from homespun_indexer.repository import Repository, remote_urls
from homespun_indexer.segment import IndexedFile, counts_of, living_in, read_table, refused_in
from homespun_indexer.snapshot import (
    FORMAT,
    KIND,
    IndexState,
    LiveSegment,
    made_of,
    new_path,
    read_segments,
    why_new,
    write_segments,
)
from homespun_indexer.tree import Entry, TreeMemory

logger = logging.getLogger(__name__)

_KEEP = 3
_KEEP_FROZEN = 4


@dataclass(slots=True)
class IndexMemory:
    """What one process knows of one repository's index. With it, indexing a saved file costs what the file holds."""

    tree: TreeMemory = field(default_factory=TreeMemory)
    verified: set[Path] = field(default_factory=set)
    """Snapshots of which every byte was checked, or written, by this process."""
    tables: dict[str, Sequence[IndexedFile]] = field(default_factory=dict)
    """The files of segments, by the segment's name."""
    spare: SpareBuilder | None = None
    """One for all repositories."""
    frozen: Path | None = None
    """The index of a given commit that was used last: the next commit's is made of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Plan:
    """What is to be indexed, and the digests that name the result."""

    selection: files.Selection
    options: str
    content: str
    embedder_digest: str
    """Empty without an embedder."""

    @property
    def generation(self) -> str:
        return storage.fingerprint(self.options, self.content)[:16]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Base:
    """A snapshot, that the next one may be made of. `digests` are those of its files."""

    path: Path
    segments: tuple[LiveSegment, ...]
    digests: Mapping[str, str]


def index_repository(
    repo: Repository,
    *,
    settings: Settings,
    data: DataDir,
    model: ModelFiles,
    tokenizer: Tokenizer,
    progress: Progress,
    commit: str | None = None,
    exclude: frozenset[str] = frozenset(),
    memory: IndexMemory | None = None,
    folder: str = "frozen",
) -> Path:
    """The index of the repository's current state, made current; or of `commit`, not made current. Built only if
    needed.

    `exclude` leaves paths out: a corpus that holds out whole files needs an index that hasn't seen them. `folder` is
    where one of a commit lies, beside those that are current.

    Raises NoSourceFiles when there is nothing to index, saying what was skipped and why (where there was something
    before, an index of nothing has taken its place then); RepositoryError after `index_minutes`, as soon as what is at
    work says how far it is: processes every tenth of a second, this one between files.
    """
    indexing = _Indexing(
        repo=repo,
        parent=data.index(repo.id) / folder if commit else data.index(repo.id),
        cache=data.cache / "blobs.sqlite",
        model=model,
        tokenizer=tokenizer,
        progress=Checked(progress, _time_limit(repo, repo.index_minutes or settings.index_minutes)),
        commit=commit,
        memory=memory or IndexMemory(),
        embedder=absolute(settings.embedder),
    )
    return indexing.run(settings, exclude)


def _time_limit(repo: Repository, minutes: float) -> Callable[[], None]:
    deadline = time.monotonic() + minutes * 60

    def check() -> None:
        if time.monotonic() >= deadline:
            raise RepositoryError(
                f"{repo.identity}: indexing took longer than {minutes:g} minutes; raise index_minutes, or leave folders"
                " out (exclude); what was finished is kept for the next time"
            )

    return check


@dataclass(frozen=True, slots=True, kw_only=True)
class _Indexing:
    """One call of `index_repository`."""

    repo: Repository
    parent: Path
    cache: Path
    model: ModelFiles
    tokenizer: Tokenizer
    progress: Progress
    commit: str | None
    memory: IndexMemory
    embedder: str
    """The setting."""

    def run(self, settings: Settings, exclude: frozenset[str]) -> Path:
        plan = self._plan(settings, exclude)
        state, found = self._state(plan)
        logger.log(logging.INFO if found is None else logging.DEBUG, "index of %s: %s", self.repo.name, state)
        if found is not None:
            whole = self._base(self._use(found))
            files.log_skipped(self.repo, refused_in(self._living_of(whole)))
            self._check(plan, whole)
            return found
        latest = self._latest() if state is IndexState.CONTENT else None
        base = self._base(latest) if latest else None
        made = self._base(self._use(self._publish(plan, state, base, frozenset())))
        self._check(plan, made)
        return self._compacted(plan, made)

    def _plan(self, settings: Settings, exclude: frozenset[str]) -> _Plan:
        selection = files.select(
            self.repo, settings=settings, commit=self.commit, memory=self.memory.tree, known=self._indexed
        )
        kept = tuple(c for c in selection.candidates if c.path not in exclude)
        embedder = load_embedder(self.embedder)
        digest = embedder.digest if embedder is not None else ""
        options = (FORMAT, records.FORMAT, MAX_CHARS, MAX_LINES, self.tokenizer.digest, digest)
        is_private = any(c.content is not None for c in kept)
        lost = [path for path, reason in selection.skipped.items() if reason == filters.DAMAGED_FOLDER]
        sources = (self.repo.name, self.repo.branch, self.commit or self.repo.head, remote_urls(self.repo))
        return _Plan(
            selection=files.Selection(candidates=kept, skipped=selection.skipped),
            options=storage.fingerprint(*options),
            content=storage.fingerprint(_keys(kept), *sources, self.repo.groups, is_private, lost),
            embedder_digest=digest,
        )

    def _indexed(self) -> Iterator[Entry]:
        """What the current index holds, unless it holds what isn't committed."""
        current = storage.current(self.parent) if self.commit is None else None
        if current is None or not self._is_whole(current):
            return
        if not storage.read_manifest(current, KIND, FORMAT).sources["uncommitted_of"]:
            for file in self._living_of(self._base(current)):
                yield Entry(path=file.path, mode="100644", blob=file.blob, size=file.size)

    def _check(self, plan: _Plan, made: _Base) -> None:
        """Raises RepositoryError where nothing counts any more: nothing is found by then."""
        if all(file.reason is not None for file in self._living_of(made)):
            raise self._nothing(plan, refused_in(self._living_of(made)))

    def _nothing(self, plan: _Plan, refused: Mapping[str, str]) -> NoSourceFiles:
        reasons = files.count_reasons({**plan.selection.skipped, **refused})
        skipped = ", ".join(f"{count} {reason}" for reason, count in reasons.items()) or "it has no files"
        return NoSourceFiles(f"{self.repo.identity}: no source files to index ({skipped})")

    def _is_emptied(self, plan: _Plan, refused: Mapping[str, str]) -> bool:
        """Whether an index of nothing takes the place of another. A repository that can't be read isn't empty."""
        reasons = {*plan.selection.skipped.values(), *refused.values()}
        return self.commit is None and not reasons & filters.UNREAD and storage.current(self.parent) is not None

    def _state(self, plan: _Plan) -> tuple[IndexState, Path | None]:
        """Why a snapshot has to be built; or the one there is. Every byte is checked before one is called equal, or
        only its content old. A damaged one stays until others have pushed it out: it may be served yet."""
        known = made_of(self.parent, plan.generation)
        for path in known:
            if self._is_whole(path) and not self._is_repaired(plan, path):
                return IndexState.EQUAL, path
        latest = self._latest()
        state = why_new(latest, plan.options)
        if known or (state is IndexState.CONTENT and latest is not None and not self._is_whole(latest)):
            return IndexState.CORRUPT, None
        return state, None

    def _latest(self) -> Path | None:
        """What the next one may be made of."""
        if self.commit is None:
            return storage.current(self.parent)
        return self.memory.frozen

    def _is_whole(self, path: Path) -> bool:
        if path not in self.memory.verified:
            try:
                storage.verify(path, storage.read_manifest(path, KIND, FORMAT))
            except StorageError:
                return False
            self.memory.verified.add(path)
        return True

    def _is_repaired(self, plan: _Plan, path: Path) -> bool:
        """Whether something can be read now that couldn't be when this snapshot was built."""
        damaged = {
            p for p, reason in refused_in(self._living_of(self._base(path))).items() if reason == filters.DAMAGED
        }
        again = [c for c in plan.selection.candidates if c.path in damaged]
        return any(raw is not None for _, raw in files.read_contents(self.repo, again))

    def _living_of(self, made: _Base) -> Iterator[IndexedFile]:
        """The files of a snapshot."""
        return (file for s in made.segments for file in living_in(self._table(made.path, s), s.dead))

    def _base(self, path: Path) -> _Base:
        digests = storage.read_manifest(path, KIND, FORMAT).files
        return _Base(path=path, segments=read_segments(path), digests=digests)

    def _publish(self, plan: _Plan, state: IndexState, base: _Base | None, worn: frozenset[int]) -> Path:
        """Segments of `base` stay, but for those in `worn`, whose living files are indexed again."""
        kept, fresh = self._divided(plan, base, worn)
        final = new_path(self.parent, plan.generation, state)
        known: dict[str, str] = {}
        segments = list(kept)
        with storage.publish_dir(final, lambda: self._manifest(plan, state, segments), known) as tmp:
            for segment in kept:
                assert base is not None
                storage.link(base.path / segment.name, tmp / segment.name)
                known[segment.name] = base.digests[segment.name]
            segments += self._build(plan, fresh, self._known_times(base, fresh), tmp)
            write_segments(tmp, segments)
        self.memory.verified.add(final)
        self.memory.tables = {segment.name: self.memory.tables[segment.name] for segment in segments}
        return final

    def _divided(
        self, plan: _Plan, base: _Base | None, worn: frozenset[int]
    ) -> tuple[list[LiveSegment], list[Candidate]]:
        """The segments of the base that stay, with what is dead in them by now; and what has to be indexed."""
        wanted = {c.path: c for c in plan.selection.candidates}
        old = base.segments if base else ()
        tables = [self._table(base.path, segment) for segment in old] if base else []
        dead = [_dead(table, segment, wanted) for table, segment in zip(tables, old, strict=True)]
        living = [living_in(table, d) for table, d in zip(tables, dead, strict=True)]
        new_bytes = _cost(wanted.values()) - sum(map(_cost, living))
        uses = [layout.Use(_cost(t), _cost(t) - _cost(ls)) for t, ls in zip(tables, living, strict=True)]
        is_new = sum(map(len, living)) < len(wanted)
        again = worn or (layout.absorbed(uses, new_bytes) if is_new else frozenset())
        stays = [i for i in range(len(old)) if i not in again and living[i]]
        held = {file.path for i in stays for file in living[i]}
        kept = [replace(old[i], dead=dead[i]) for i in stays]
        return kept, [c for path, c in wanted.items() if path not in held]

    def _table(self, snapshot: Path, segment: LiveSegment) -> Sequence[IndexedFile]:
        if segment.name not in self.memory.tables:
            self.memory.tables[segment.name] = read_table(snapshot / segment.name)
        return self.memory.tables[segment.name]

    def _known_times(self, base: _Base | None, fresh: Sequence[Candidate]) -> dict[tuple[str, str], int]:
        """When those that the base knows were last changed, by path and blob."""
        wanted = {c.path for c in fresh}
        return {
            (file.path, file.blob): time
            for segment in (base.segments if base else ())
            for file, time in zip(self.memory.tables[segment.name], segment.changed, strict=True)
            if file.path in wanted
        }

    def _build(
        self, plan: _Plan, fresh: Sequence[Candidate], times: Mapping[tuple[str, str], int], folder: Path
    ) -> list[LiveSegment]:
        if not fresh:
            return []
        groups = [fresh[part] for part in layout.cut([c.size for c in fresh], num_processes())]
        names = [storage.fingerprint(plan.options, _keys(group))[:16] for group in groups]
        jobs = [
            Job(repo=self.repo, candidates=group, target=folder / name, cache=self.cache, embedder=self.embedder)
            for group, name in zip(groups, names, strict=True)
        ]
        with ThreadPoolExecutor(1) as beside:  # git reads the history while we read the files
            changed = beside.submit(self._changed, fresh, times)
            tables = build_segments(jobs, self.tokenizer, self.model, self.progress, self.memory.spare)
        self.memory.tables.update(zip(names, tables, strict=True))
        found = changed.result()
        return [
            LiveSegment(name, frozenset(), tuple(found.get(c.path, 0) for c in group))
            for name, group in zip(names, groups, strict=True)
        ]

    def _changed(self, fresh: Sequence[Candidate], known: Mapping[tuple[str, str], int]) -> dict[str, int]:
        """When each path was last changed: now, if that isn't committed."""
        found = {c.path: known.get((c.path, c.blob), 0) for c in fresh}
        found |= {c.path: int(time.time()) for c in fresh if c.content is not None and not found[c.path]}
        asked = [path for path, at in found.items() if not at]
        try:
            return found | (last_changed(self.repo, self.commit or self.repo.head, asked) if asked else {})
        except RepositoryError:  # a damaged history: the files are there all the same
            return found

    def _manifest(self, plan: _Plan, state: IndexState, segments: Sequence[LiveSegment]) -> Manifest:
        live = [file for s in segments for file in living_in(self.memory.tables[s.name], s.dead)]
        refused = refused_in(live)
        if state is not IndexState.WORN:  # else they were named a moment ago
            files.log_skipped(self.repo, refused)
        if len(refused) == len(live) and not self._is_emptied(plan, refused):
            raise self._nothing(plan, refused)
        reasons = files.count_reasons({**plan.selection.skipped, **refused})
        return Manifest(
            kind=KIND,
            format_version=FORMAT,
            fingerprint=plan.generation,
            sources=self._sources(plan),
            info=counts_of(live) | {"skipped": reasons, "segments": len(segments), "state": state.value},
        )

    def _sources(self, plan: _Plan) -> dict[str, str]:
        """`git_urls` and `groups` hold one a line. `uncommitted_of` names the only person who may be served all of
        it."""
        return {
            "repository": self.repo.identity,
            "name": self.repo.name,
            "branch": self.repo.branch,
            "commit": self.commit or self.repo.head,
            "git_urls": "\n".join(remote_urls(self.repo)),
            "base_model": self.model.name,
            "tokenizer": self.tokenizer.digest,
            "options": plan.options,
            "content": plan.content,
            "embedder": self.embedder,
            "embedder_digest": plan.embedder_digest,
            "groups": "\n".join(self.repo.groups),
            "uncommitted_of": self._owner() if any(c.content is not None for c in plan.selection.candidates) else "",
        }

    def _owner(self) -> str:
        """Whose working tree it is: what isn't committed yet is nobody else's to see."""
        owner = (self.repo.work_tree or self.repo.git_dir).stat().st_uid
        try:
            return pwd.getpwuid(owner).pw_name
        except KeyError:  # a user of another machine, as in containers
            return f"user {owner}"

    def _use(self, path: Path) -> Path:
        storage.sweep(self.parent)  # of a process that died between publishing and here, too
        os.utime(path)  # used now: the last to be pruned
        if self.commit is None:
            storage.set_current(self.parent, path.name)
        else:
            self.memory.frozen = path
        storage.prune(self.parent, _KEEP_FROZEN if self.commit else _KEEP)
        return path

    def _compacted(self, plan: _Plan, base: _Base) -> Path:
        """The same content in fewer and fuller segments, when it is time for that. What `base` holds is served
        meanwhile."""
        tables = [self._table(base.path, segment) for segment in base.segments]
        uses = [layout.Use(_cost(t), _cost(t[i] for i in s.dead)) for t, s in zip(tables, base.segments, strict=True)]
        worn = layout.worn(uses)
        if not worn:
            return base.path
        logger.info("index of %s: %d of %d segments are built again", self.repo.name, len(worn), len(uses))
        return self._use(self._publish(plan, IndexState.WORN, base, worn))


def _cost(files: Iterable[Candidate | IndexedFile]) -> int:
    return layout.cost([file.size for file in files])


def _keys(candidates: Sequence[Candidate]) -> list[tuple[str, str, str]]:
    """What an index of them is told apart by."""
    return [(c.path, c.blob, c.language) for c in candidates]


def _dead(table: Sequence[IndexedFile], segment: LiveSegment, wanted: Mapping[str, Candidate]) -> frozenset[int]:
    """The files that were dead already, and those that are gone or have other content now."""
    return segment.dead | {
        number
        for number, file in enumerate(table)
        if (now := wanted.get(file.path)) is None
        or (now.blob, now.language) != (file.blob, file.language)
        or file.reason == filters.DAMAGED
    }
