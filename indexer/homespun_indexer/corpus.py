"""Corpus snapshots: what an adapter may be trained on, and held-out tasks that judge it.

The split is by time: documents are the files as of a *cut* commit, tasks are lines added after it. Where the history is
too short for that, whole files are held out instead, and the report says so.
"""

from __future__ import annotations

import json
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from homespun_core import storage
from homespun_core.config import Settings
from homespun_core.errors import RepositoryError, StorageError
from homespun_core.paths import DataDir
from homespun_core.storage import Manifest
from homespun_core.types import Document, EvalTask, Progress
from homespun_indexer import files, filters, tasks
from homespun_indexer.files import SourceFile
from homespun_indexer.history import Mainline, mainline, steps
from homespun_indexer.repository import Repository
from homespun_indexer.secrets import RULES_VERSION, redact
from homespun_indexer.tasks import Place
from homespun_indexer.tree import BlobReader

KIND = "corpus"
FORMAT = 2
"""2: documents.jsonl, tasks.jsonl, report.json."""
TIME, FILES = "time", "files"
_KEEP = 3

_CANDIDATES_PER_TASK = 4
_MAX_DAYS = 365
_MAX_STEPS = 4_000
"""Steps of history read at most. 4,000 give thousands of tasks; reading on would only age the corpus."""
_HELD_OUT_SHARE = 0.1
_MIN_TASKS = 20
"""Fewer say nothing; the other kind of split is tried then."""
_DELETED = "deleted since"


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """Where documents end and tasks begin."""

    kind: str
    commit: str
    time: int
    places: tuple[Place, ...]
    held_out: frozenset[str]
    refused: Mapping[str, int]
    """Lines that make no task, by reason."""
    num_steps: int


def build_corpus(repo: Repository, *, settings: Settings, data: DataDir, progress: Progress) -> Path:
    """The corpus of the repository's committed state, made current. One that exists for it already is used again."""
    parent = data.corpus(repo.id)
    limits = (settings.max_file_kb, repo.max_repo_mb or settings.max_repo_mb)
    options = (FORMAT, RULES_VERSION, settings.eval_tasks, settings.seed, *limits, repo.rules.key())
    fingerprint = storage.fingerprint(repo.identity, repo.head, list(options))
    final = parent / fingerprint[:16]
    if not _is_good(final):
        _publish(repo, settings, final, fingerprint, progress)
    storage.set_current(parent, final.name)
    storage.prune(parent, _KEEP)
    return final


class CorpusReader:
    """Read side of a corpus snapshot."""

    def __init__(self, path: Path, manifest: Manifest) -> None:
        self.path = path
        self.manifest = manifest
        self.report: Mapping[str, Any] = json.loads((path / "report.json").read_text(encoding="utf-8"))

    @staticmethod
    def open(path: Path) -> CorpusReader:
        """Checked against its manifest. Raises StorageError when it is missing, damaged or of another format."""
        manifest = storage.read_manifest(path, KIND, FORMAT)
        storage.verify(path, manifest)
        return CorpusReader(path, manifest)

    @property
    def cut(self) -> str:
        """The commit whose index has seen nothing of the tasks, `held_out` files aside."""
        return self.manifest.sources["commit"]

    @property
    def held_out(self) -> frozenset[str]:
        """Paths to leave out of that index; empty when the split is by time."""
        return frozenset(self.report["held_out"])

    def documents(self) -> Iterator[Document]:
        for row in self._rows("documents.jsonl"):
            yield Document(**row)

    def tasks(self) -> list[EvalTask]:
        return [EvalTask(**row) for row in self._rows("tasks.jsonl")]

    def _rows(self, name: str) -> Iterator[dict[str, Any]]:
        with (self.path / name).open(encoding="utf-8") as handle:
            for line in handle:
                yield json.loads(line)


def _is_good(path: Path) -> bool:
    """A damaged snapshot is deleted, so that a new one can take its name."""
    if not (path / storage.MANIFEST).is_file():
        return False
    try:
        storage.verify(path, storage.read_manifest(path, KIND, FORMAT))
    except StorageError:
        shutil.rmtree(path, ignore_errors=True)
        return False
    return True


def _publish(repo: Repository, settings: Settings, final: Path, fingerprint: str, progress: Progress) -> None:
    split = choose_split(repo, settings, progress)
    progress.start("Reading the files of the cut")
    selection, texts, refused = files.read_sources(repo, settings=settings, commit=split.commit)
    documents, left_out, redactions = _documents(texts, split)
    skipped = files.count_reasons({**selection.skipped, **refused}) | left_out
    if not documents:
        reasons = ", ".join(f"{n} {why}" for why, n in skipped.items())
        raise RepositoryError(f"{repo.identity}: no source files to train on ({reasons or 'it has no files'})")
    held_out_tasks = _tasks(repo, settings, split, documents)
    report = _report(split, documents, held_out_tasks, skipped, redactions)
    sources = {
        "repository": repo.identity,
        "name": repo.name,
        "commit": split.commit,
        "head": repo.head,
        "split": split.kind,
    }
    info = {"documents": len(documents), "tasks": len(held_out_tasks)}
    manifest = Manifest(kind=KIND, format_version=FORMAT, fingerprint=fingerprint, sources=sources, info=info)
    with storage.publish_dir(final, manifest) as tmp:
        _write_rows(tmp / "documents.jsonl", documents)
        _write_rows(tmp / "tasks.jsonl", held_out_tasks)
        (tmp / "report.json").write_text(json.dumps(report, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    progress.finish(f"{len(documents):,} files, {len(held_out_tasks)} held-out places")


def _write_rows(path: Path, rows: Sequence[Document | EvalTask]) -> None:
    with path.open("w", encoding="utf-8") as handle:
        handle.writelines(json.dumps(asdict(row), ensure_ascii=False) + "\n" for row in rows)


def choose_split(repo: Repository, settings: Settings, progress: Progress) -> Split:
    """By time if that gives tasks enough, by files if that gives more."""
    by_time = _split_by_time(repo, settings, progress)
    if len(by_time.places) >= max(_MIN_TASKS, settings.eval_tasks // 2):
        return by_time
    by_files = _split_by_files(repo, settings)
    return by_files if len(by_files.places) > len(by_time.places) else by_time


def _split_by_time(repo: Repository, settings: Settings, progress: Progress) -> Split:
    """The youngest cut with enough places after it: at most half of the history and a year may be spent on tasks."""
    line = mainline(repo, 2 * _MAX_STEPS)
    limit = _oldest_cut(line)
    wanted = settings.eval_tasks * _CANDIDATES_PER_TASK
    left_out = _left_out(repo, settings)
    found: list[Place] = []
    refused: Counter[str] = Counter()
    position = {commit: i for i, commit in enumerate(line.commits)}
    cut = num_steps = 0
    progress.start("Reading the history")
    for step in steps(repo, limit) if limit else ():
        if position.get(step.commit, limit) >= limit:
            break
        cut, num_steps = position[step.commit] + 1, num_steps + 1
        found += tasks.spread(tasks.places(step, refused, left_out), settings.seed)  # MAX_PER_COMMIT of each
        progress.advance(num_steps)
        if len(found) >= wanted and len(spread := tasks.spread(found, settings.seed)) >= wanted:
            found = spread
            break
    progress.finish(f"{num_steps:,} steps")
    return Split(
        kind=TIME,
        commit=line.commits[cut],
        time=line.times[cut],
        places=tuple(tasks.spread(found, settings.seed)),
        held_out=frozenset(),
        refused=dict(refused),
        num_steps=num_steps,
    )


def _left_out(repo: Repository, settings: Settings) -> Callable[[str], str | None]:
    """Why a path makes no tasks; None if it does: only the files that count at the head do, by the rules of today."""
    selection = files.select(repo, settings=settings, commit=repo.head)
    selected = frozenset(c.path for c in selection.candidates)
    return lambda path: None if path in selected else selection.skipped.get(path, _DELETED)


def _oldest_cut(line: Mainline) -> int:
    """How many commits may lie after the cut; 0 when there is no commit before them."""
    half = min(len(line.commits) // 2, _MAX_STEPS)
    youngest = line.times[0] - _MAX_DAYS * 86_400
    return next((i for i in range(half) if line.times[i] < youngest), half)


def _split_by_files(repo: Repository, settings: Settings) -> Split:
    """A tenth of the files, by hash of their paths, and the copies of these."""
    found: list[Place] = []
    refused: Counter[str] = Counter()
    texts = files.source_files(repo, settings=settings, commit=repo.head)
    chosen = {file.path for file in texts if tasks.is_held_out(file.path, settings.seed, _HELD_OUT_SHARE)}
    withheld = {file.blob for file in texts if file.path in chosen}
    for file in texts:
        if file.path in chosen:
            found += tasks.file_places(file, repo.head, refused)
    return Split(
        kind=FILES,
        commit=repo.head,
        time=mainline(repo, 1).times[0],
        places=tuple(tasks.spread(found, settings.seed, per_commit=tasks.MAX_PER_FILE)),
        held_out=frozenset(file.path for file in texts if file.blob in withheld),
        refused=dict(refused),
        num_steps=0,
    )


def _documents(texts: Iterable[SourceFile], split: Split) -> tuple[list[Document], dict[str, int], dict[str, int]]:
    """Each text once, without held-out files and without secrets; what was left out; what was redacted."""
    texts = list(texts)
    skipped: Counter[str] = Counter()
    redactions: Counter[str] = Counter()
    used: set[str] = set()
    documents = []
    for file in texts:
        if file.path in split.held_out or file.blob in used:
            skipped["held out" if file.path in split.held_out else "duplicate"] += 1
            continue
        used.add(file.blob)
        clean, found = redact(file.text)
        redactions.update(found)
        documents.append(Document(path=file.path, language=file.language, blob=file.blob, text=clean))
    return documents, dict(skipped), dict(redactions)


def _tasks(repo: Repository, settings: Settings, split: Split, documents: list[Document]) -> list[EvalTask]:
    lines = tasks.stripped_lines(d.text for d in documents)
    made: list[EvalTask] = []
    with BlobReader(repo) as blobs:
        for place in split.places:
            new = _text(blobs, place.new_blob)
            old = _text(blobs, place.old_blob)
            made_here = tasks.task(place, new, old, lines.__contains__, settings.seed) if new else None
            if made_here is not None:
                made.append(made_here)
            if len(made) == settings.eval_tasks:
                break
    return made


def _text(blobs: BlobReader, blob: str) -> str:
    """Empty where there is none (a new file's old blob is all zeros) or it doesn't count as source."""
    raw = blobs.find(blob) if blob.strip("0") else None
    return filters.decode_source(raw)[0] if raw is not None else ""


def _report(
    split: Split,
    documents: list[Document],
    held_out_tasks: list[EvalTask],
    skipped: Mapping[str, int],
    redactions: Mapping[str, int],
) -> dict[str, object]:
    return {
        "split": split.kind,
        "cut": split.commit,
        "cut_time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(split.time)),
        "steps_after_cut": split.num_steps,
        "held_out": sorted(split.held_out),
        "documents": len(documents),
        "characters": sum(len(d.text) for d in documents),
        "languages": dict(Counter(d.language for d in documents).most_common()),
        "skipped": dict(skipped),
        "redactions": dict(redactions),
        "tasks": len(held_out_tasks),
        "tasks_seen": sum(t.seen for t in held_out_tasks),
        "tasks_possible": len(split.places),
        "lines_refused": dict(split.refused),
    }
