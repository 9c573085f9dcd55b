"""Corpus snapshots: what an adapter may be trained on, and held-out tasks that judge it.

The split is by time: documents are the files as of a *cut* commit, tasks are lines added after it. Where the history is
too short for that, whole files are held out instead, and the report says so.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from homespun_core import storage
from homespun_core.config import Settings
from homespun_core.errors import NoSourceFiles, StorageError
from homespun_core.paths import DataDir
from homespun_core.storage import Manifest
from homespun_core.types import Document, EvalTask, Progress
from homespun_indexer import documents, files, filters, forgotten, people, tasks
from homespun_indexer.authorship import own_steps
from homespun_indexer.corpus_report import counts
from homespun_indexer.documents import FileRecord, Gathered
from homespun_indexer.files import RulesNow
from homespun_indexer.forgotten import Forgotten
from homespun_indexer.history import Mainline, mainline, steps
from homespun_indexer.repository import Repository
from homespun_indexer.secrets import RULES_VERSION
from homespun_indexer.tasks import Place

KIND = "corpus"
FORMAT = 5
"""3: documents.jsonl with weights, recent lines and authors; files.jsonl, tasks.jsonl, report.json. 4: files.jsonl says
what prompts may show. 5: names that files had, and asked.jsonl."""
CHOICE = 6
"""Goes up when other files of the same commit are learned from or held out. 2: licences by family. 3: near copies of
held-out files. 4: licences in `LICENSES/`. 5: Commons Clause and its like are known, and the authors of files whose
name was used before. 6: what is forgotten by any name that it had; rules of the head and of the working tree; copies of
what is forgotten, or left out for its licence; the authors of files that were moved by hundreds; weights count as much
of a huge file as examples do."""
TIME, FILES = "time", "files"
_KEEP = 3

_CANDIDATES_PER_TASK, _FEWEST_PER_TASK = 4, 1.25
"""Wanted of the last year, and at least where that means an older cut."""
_MAX_DAYS = 365
_USUAL_TASKS = 200
"""Who asks for more may get an older cut, in proportion."""
_MAX_STEPS = 4_000
"""Steps of history read at most. 4,000 give thousands of tasks; reading on would only age the corpus."""
_HELD_OUT_SHARE = 0.1
_MIN_TASKS = 20
"""Fewer say nothing; the other kind of split is tried then."""
_DELETED = "deleted since"


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """Whose lines alone are learned and asked for."""

    place: str
    """Name of the corpora's directory."""
    authors: tuple[str, ...]
    """Hashes of their addresses."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What a corpus is asked for."""

    repo: Repository
    settings: Settings
    forgotten: Sequence[Forgotten]
    """Those about this repository."""
    author_hash: Callable[[str], str]
    rules: RulesNow
    own_steps: frozenset[str] | None = None
    """Commits of the main line whose lines count; None is all of them."""

    def past(self, commit: str, since: str | None = None) -> Mapping[str, people.Past]:
        return people.pasts(self.repo, commit, self.author_hash, since)


@dataclass(frozen=True, slots=True, kw_only=True)
class AskedFile:
    """A file that held-out places are of, as the head has it: its lines stand in the corpus, and in reports of adapters
    that were judged there."""

    path: str
    authors: tuple[str, ...]
    names: tuple[str, ...]
    """Other paths that it had."""
    blob: str = ""
    """Its places are of several versions of it."""


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


def request_for(repo: Repository, settings: Settings, data: DataDir) -> Request:
    requests = forgotten.about(forgotten.load(data), repo.id)
    rules = files.rules_now(repo, settings=settings)
    return Request(repo=repo, settings=settings, forgotten=requests, author_hash=people.author_hash(data), rules=rules)


def build_corpus(
    repo: Repository, *, settings: Settings, data: DataDir, progress: Progress, owner: Owner | None = None
) -> Path:
    """The corpus of the repository's committed state, made current. One that exists for it already is used again.

    With an `owner`, of files as far as they wrote them: their hunks are the recent lines, and the tasks are theirs.
    Raises NoSourceFiles when there is nothing to train on, because all of it is to be forgotten for example.
    """
    parent = data.corpus(owner.place if owner else repo.id)
    request = request_for(repo, settings, data)
    limits = (settings.max_file_kb, repo.max_repo_mb or settings.max_repo_mb)
    options = [FORMAT, RULES_VERSION, CHOICE, settings.eval_tasks, settings.seed, *limits, repo.rules.key()]
    options += [forgotten.key(request.forgotten)] if request.forgotten else []
    options += [list(owner.authors)] if owner else []
    options += [uncommitted] if (uncommitted := request.rules.uncommitted()) else []
    fingerprint = storage.fingerprint(repo.identity, repo.head, options)
    final = parent / fingerprint[:16]
    if not _is_good(final):
        own = own_steps(repo, owner.authors, request.author_hash) if owner else None
        _publish(replace(request, own_steps=own), final, fingerprint, progress)
    os.utime(final)  # used now: the last that another training of the repository prunes
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
            yield Document(**_as_tuples(row))

    def files(self) -> Iterator[FileRecord]:
        """Every file of the cut, with the reason it is left out."""
        for row in self._rows("files.jsonl"):
            yield FileRecord(**_as_tuples(row))

    def unlearnable(self) -> frozenset[str]:
        """Paths whose text the index has, and nothing may be learned of."""
        return frozenset(f.path for f in self.files() if f.reason in filters.UNLEARNABLE)

    def touched(self, *, with_snippets: bool) -> list[FileRecord | AskedFile]:
        """Files that training on it has to do with: learned from, themselves or by a copy, asked about, or shown in
        prompts as snippets."""
        learned = (None, filters.DUPLICATE, filters.NEAR_DUPLICATE)
        known = [f for f in self.files() if f.reason in learned or (with_snippets and f.is_shown)]
        return [*known, *(AskedFile(**_as_tuples(row)) for row in self._rows("asked.jsonl"))]

    def tasks(self) -> list[EvalTask]:
        return [EvalTask(**row) for row in self._rows("tasks.jsonl")]

    def _rows(self, name: str) -> Iterator[dict[str, Any]]:
        with (self.path / name).open(encoding="utf-8") as handle:
            for line in handle:
                yield json.loads(line)


def _as_tuples(row: Mapping[str, Any]) -> dict[str, Any]:
    """JSON has lists only."""
    return {
        k: tuple(tuple(i) if isinstance(i, list) else i for i in v) if isinstance(v, list) else v
        for k, v in row.items()
    }


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


def _publish(request: Request, final: Path, fingerprint: str, progress: Progress) -> None:
    repo = request.repo
    split = choose_split(request, progress)
    progress.start("Reading the files of the cut")
    past, later = request.past(split.commit), request.past(repo.head, since=split.commit)
    names = people.later_names(later)
    gathered = documents.gather(
        repo,
        request.settings,
        commit=split.commit,
        now=split.time,
        held_out=split.held_out,
        requests=request.forgotten,
        past=people.with_later_names(past, later),
        refused_now=lambda path: request.rules.reason((path, *names.get(path, ()))),
        own_steps=request.own_steps,
    )
    if not gathered.documents:
        reasons = ", ".join(f"{n} {why}" for why, n in gathered.left_out.items())
        raise NoSourceFiles(f"{repo.identity}: no source files to train on ({reasons or 'it has no files'})")
    held_out_tasks = _tasks(request, split, gathered.documents)
    report = _report(split, gathered, held_out_tasks)
    sources = {
        "repository": repo.identity,
        "name": repo.name,
        "commit": split.commit,
        "head": repo.head,
        "split": split.kind,
    }
    info = {"documents": len(gathered.documents), "tasks": len(held_out_tasks)}
    manifest = Manifest(kind=KIND, format_version=FORMAT, fingerprint=fingerprint, sources=sources, info=info)
    with storage.publish_dir(final, manifest) as tmp:
        _write_rows(tmp / "documents.jsonl", gathered.documents)
        _write_rows(tmp / "files.jsonl", gathered.records)
        _write_rows(tmp / "tasks.jsonl", held_out_tasks)
        _write_rows(tmp / "asked.jsonl", _asked(held_out_tasks, past, later))
        (tmp / "report.json").write_text(json.dumps(report, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    progress.finish(f"{len(gathered.documents):,} files, {len(held_out_tasks)} held-out places")


def _write_rows(path: Path, rows: Sequence[Document | EvalTask | FileRecord | AskedFile]) -> None:
    with path.open("w", encoding="utf-8") as handle:
        handle.writelines(json.dumps(asdict(row), ensure_ascii=False) + "\n" for row in rows)


def _asked(
    tasks: Sequence[EvalTask], past: Mapping[str, people.Past], later: Mapping[str, people.Past]
) -> list[AskedFile]:
    known = {path: people.with_earlier(later, past, path) for path in sorted({task.path for task in tasks})}
    return [AskedFile(path=path, authors=whole.authors, names=whole.names) for path, whole in known.items()]


def choose_split(request: Request, progress: Progress) -> Split:
    """By time if that gives tasks enough, by files if that gives more."""
    by_time = _split_by_time(request, progress)
    if request.own_steps is not None:  # nobody is told by whole files
        return by_time
    if len(by_time.places) >= max(_MIN_TASKS, request.settings.eval_tasks // 2):
        return by_time
    by_files = _split_by_files(request)
    return by_files if len(by_files.places) > len(by_time.places) else by_time


def _split_by_time(request: Request, progress: Progress) -> Split:
    """The youngest cut with enough places after it: at most half of the history and, where no more tasks than usual are
    wanted, a year may be spent on them."""
    repo, settings = request.repo, request.settings
    line = mainline(repo, 2 * _MAX_STEPS)
    year = _oldest_cut(line, _MAX_DAYS)
    limit = _oldest_cut(line, _MAX_DAYS * max(1.0, settings.eval_tasks / _USUAL_TASKS))
    reason_left_out = left_out(request)
    found: list[Place] = []
    refused: Counter[str] = Counter()
    position = {commit: i for i, commit in enumerate(line.commits)}
    cut = num_steps = 0
    progress.start("Reading the history")
    for step in steps(repo, limit) if limit else ():
        if position.get(step.commit, limit) >= limit:
            break
        cut, num_steps = position[step.commit] + 1, num_steps + 1
        if request.own_steps is not None and step.commit not in request.own_steps:
            continue
        found += tasks.spread(tasks.places(step, refused, reason_left_out), settings.seed)  # MAX_PER_COMMIT of each
        progress.advance(num_steps)
        wanted = settings.eval_tasks * (_CANDIDATES_PER_TASK if cut < year else _FEWEST_PER_TASK)
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


def left_out(request: Request) -> Callable[[str], str | None]:
    """Why a path makes no tasks; None if it does: only the files that count at the head do, by the rules of today."""
    selection = files.select(request.repo, settings=request.settings, commit=request.repo.head)
    selected = frozenset(c.path for c in selection.candidates)
    is_forgotten = _forgotten_at_head(request)

    def reason(path: str) -> str | None:
        if is_forgotten(path):
            return filters.FORGOTTEN
        return request.rules.reason([path]) if path in selected else selection.skipped.get(path, _DELETED)

    return reason


def _forgotten_at_head(request: Request) -> Callable[[str], bool]:
    past = request.past(request.repo.head) if request.forgotten else {}

    def is_forgotten(path: str) -> bool:
        known = past.get(path, people.NOTHING)
        return forgotten.is_forgotten((path, *known.names), known.authors, request.forgotten)

    return is_forgotten


def _oldest_cut(line: Mainline, days: float) -> int:
    """How many commits may lie after the cut; 0 when there is no commit before them."""
    half = min(len(line.commits) // 2, _MAX_STEPS)
    return line.num_within(round(days * 86_400), half)


def _split_by_files(request: Request) -> Split:
    """A tenth of the files, by hash of their paths, and the (near) copies of these."""
    found: list[Place] = []
    refused: Counter[str] = Counter()
    repo, settings, reason_left_out = request.repo, request.settings, left_out(request)
    found_texts = files.source_files(repo, settings=settings, commit=repo.head)
    reasons = {file.path: reason_left_out(file.path) for file in found_texts}
    gone = documents.blobs_of_copies([f for f in found_texts if reasons[f.path] == filters.FORGOTTEN], found_texts)
    texts = [file for file in found_texts if reasons[file.path] is None and file.blob not in gone]
    chosen = {file.path for file in texts if tasks.is_held_out(file.path, settings.seed, _HELD_OUT_SHARE)}
    originals = [file for file in texts if file.path in chosen]
    withheld = documents.blobs_of_copies(originals, texts)
    for file in originals:
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


def _tasks(request: Request, split: Split, trained_on: Sequence[Document]) -> list[EvalTask]:
    settings = request.settings
    lines = tasks.stripped_lines(d.text for d in trained_on)
    return tasks.tasks_at(request.repo, split.places, tasks.known_in(lines), settings.seed, settings.eval_tasks)


def _report(split: Split, gathered: Gathered, held_out_tasks: Sequence[EvalTask]) -> dict[str, object]:
    trained_on = gathered.documents
    return {
        "split": split.kind,
        "cut": split.commit,
        "cut_time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(split.time)),
        "steps_after_cut": split.num_steps,
        "held_out": sorted(split.held_out),
        **counts(trained_on),
        "skipped": dict(gathered.left_out),
        "skipped_bytes": dict(gathered.left_out_bytes),
        "redactions": dict(gathered.redactions),
        "tasks": len(held_out_tasks),
        "tasks_seen": sum(t.seen for t in held_out_tasks),
        "tasks_possible": len(split.places),
        "lines_refused": dict(split.refused),
    }
