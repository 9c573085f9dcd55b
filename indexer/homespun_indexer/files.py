"""The source files of a repository at a commit, or as they stand in the working tree now. Nothing is ever checked out.

A *candidate* is a path that may count, judged by its name and size alone; whether its text counts is known once it is
read (`filters.decode_source`). The index fingerprints candidates, so that an unchanged repository is recognised without
reading it.
"""

from __future__ import annotations

import hashlib
import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from homespun_core.config import Settings
from homespun_core.errors import RepositoryError
from homespun_core.languages import language_of_path
from homespun_indexer import filters, worktree
from homespun_indexer.git import GitFailed
from homespun_indexer.patterns import Pattern, is_ignored, parse_attributes, parse_ignore
from homespun_indexer.repository import Repository

logger = logging.getLogger(__name__)

IGNORE_FILE = ".homespunignore"
_ATTRIBUTES_FILE = ".gitattributes"
_ATTRIBUTES = {"linguist-generated": filters.GENERATED, "linguist-vendored": filters.VENDORED}
_RULE_FILE_LIMIT = 1_000_000
_BATCH_S = 4 * 3_600
"""Time limit of a BlobReader: what is done with the files between two of them counts as well."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A path of a commit or working tree. `content` is set where the blob isn't in git: saved, but not committed."""

    path: str
    mode: str
    blob: str
    size: int
    content: bytes | None = field(default=None, repr=False)
    is_missing: bool = False
    """Not in the object database: a partial clone, or a damaged one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    path: str
    language: str
    blob: str
    size: int
    content: bytes | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceFile:
    path: str
    language: str
    blob: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    candidates: tuple[Candidate, ...]
    skipped: Mapping[str, str]
    """Path -> reason."""


def source_files(repo: Repository, *, settings: Settings, commit: str | None = None) -> list[SourceFile]:
    """The files that count, sorted by path. `commit` None: the head, and over it what is saved but not committed."""
    return read_sources(repo, settings=settings, commit=commit)[1]


def read_sources(
    repo: Repository, *, settings: Settings, commit: str | None = None
) -> tuple[Selection, list[SourceFile], dict[str, str]]:
    """Selection, files that count, and (path -> reason) the candidates whose text doesn't."""
    selection = select(repo, settings=settings, commit=commit)
    found: list[SourceFile] = []
    refused: dict[str, str] = {}
    for candidate, raw in read_contents(repo, selection.candidates):
        text, reason = filters.decode_source(raw)
        if reason is None:
            found.append(SourceFile(path=candidate.path, language=candidate.language, blob=candidate.blob, text=text))
        else:
            refused[candidate.path] = reason
    return selection, found, refused


def select(repo: Repository, *, settings: Settings, commit: str | None = None) -> Selection:
    """Candidates sorted by path, and why the other files are left out."""
    entries = list_entries(repo, commit, max_bytes=settings.max_file_kb * 1_000)
    rules = _Rules(repo, entries)
    candidates: list[Candidate] = []
    skipped: dict[str, str] = {}
    room = settings.max_repo_mb * 1_000_000
    for entry in entries:
        language = language_of_path(entry.path)
        reason = _reason(entry, rules, settings, known=language is not None)
        if reason is None and entry.size > room:
            reason = filters.REPOSITORY_LIMIT
        if reason is not None or language is None:
            skipped[entry.path] = reason or filters.UNKNOWN_LANGUAGE
            logger.debug("skipped %s: %s", entry.path, skipped[entry.path])
            continue
        room -= entry.size
        candidates.append(
            Candidate(path=entry.path, language=language.name, blob=entry.blob, size=entry.size, content=entry.content)
        )
    return Selection(candidates=tuple(candidates), skipped=skipped)


def list_entries(repo: Repository, commit: str | None, *, max_bytes: int) -> list[Entry]:
    """Everything in the commit (None: head and working tree), sorted by path. Files of the working tree that are larger
    than `max_bytes` have no content, and no blob that git knows."""
    entries = {entry.path: entry for entry in _tree(repo, commit or repo.head)}
    if commit is None and repo.work_tree is not None:
        entries = _overlaid(repo, entries, max_bytes)
    return [entries[path] for path in sorted(entries)]


def read_contents(repo: Repository, wanted: Iterable[Candidate]) -> Iterator[tuple[Candidate, bytes]]:
    """Each candidate with its bytes, through one git process."""
    with BlobReader(repo) as blobs:
        for candidate in wanted:
            yield candidate, blobs.read(candidate.blob) if candidate.content is None else candidate.content


class BlobReader:
    """Objects by id or `commit:path`, through one `git cat-file --batch`. A context manager; for one thread."""

    def __init__(self, repo: Repository) -> None:
        self._repo = repo
        self._running = repo.git.running("cat-file", "--batch", timeout_s=_BATCH_S)

    def __enter__(self) -> BlobReader:
        self._process = self._running.__enter__()
        return self

    def __exit__(self, *exc: object) -> None:
        self._running.__exit__(None, None, None)

    def read(self, name: str) -> bytes:
        """Raises RepositoryError when the repository lacks the object (damaged, or a partial clone)."""
        content = self.find(name)
        if content is None:
            raise RepositoryError(
                f"{self._repo.identity}: object {name} is missing; run `git fsck` or fetch it completely"
            )
        return content

    def find(self, name: str) -> bytes | None:
        """None when there is no such object, or its name can't be asked for."""
        if "\n" in name:
            return None
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None and stdout is not None
        stdin.write(f"{name}\n".encode())
        stdin.flush()
        header = stdout.readline().rsplit(b" ", 2)
        if len(header) != 3 or not header[2].strip().isdigit():
            return None
        content = stdout.read(int(header[2]))
        stdout.read(1)
        return content if header[1] == b"blob" else None


def count_reasons(skipped: Mapping[str, str]) -> dict[str, int]:
    return dict(Counter(skipped.values()).most_common())


class _Rules:
    """What the repository itself says about its files: .homespunignore at its root, .gitattributes anywhere."""

    def __init__(self, repo: Repository, entries: Iterable[Entry]) -> None:
        self._ignored: list[Pattern] = []
        self._attributes: list[tuple[Pattern, str, bool]] = []
        files = [e for e in entries if e.mode.startswith("100") and not e.is_missing and e.size < _RULE_FILE_LIMIT]
        rule_files = [e for e in files if _is_rule_file(e.path)]
        if not rule_files:
            return
        with BlobReader(repo) as blobs:
            for entry in rule_files:
                raw = blobs.read(entry.blob) if entry.content is None else entry.content
                text = raw.decode("utf-8", "replace")
                if entry.path == IGNORE_FILE:
                    self._ignored += parse_ignore(text)
                else:
                    self._attributes += parse_attributes(text, filters.folder(entry.path), _ATTRIBUTES)

    def reason(self, path: str) -> str | None:
        if is_ignored(path, self._ignored):
            return filters.IGNORED
        values = {name: value for pattern, name, value in self._attributes if pattern.expression.match(path)}
        return next((_ATTRIBUTES[name] for name, value in values.items() if value), None)


def _reason(entry: Entry, rules: _Rules, settings: Settings, *, known: bool) -> str | None:
    if entry.mode == "120000":
        return filters.SYMLINK
    if entry.mode == "160000":
        return filters.SUBMODULE
    reason = filters.path_reason(entry.path)
    if reason is not None:
        return reason
    if not known:
        return filters.UNKNOWN_LANGUAGE
    if entry.is_missing:
        return filters.MISSING
    return filters.TOO_LARGE if entry.size > settings.max_file_kb * 1_000 else rules.reason(entry.path)


def _tree(repo: Repository, commit: str) -> Iterator[Entry]:
    try:
        listing = repo.git.output("ls-tree", "-r", "-z", "-l", "--full-tree", "--end-of-options", commit)
    except GitFailed as error:
        raise RepositoryError(f"{repo.identity}: commit {commit} can't be read ({error.reason})") from error
    for line in listing.split(b"\0"):
        meta, tab, path = line.partition(b"\t")
        if not tab:
            continue
        mode, _, blob, size = meta.split()
        # A path that isn't UTF-8 can't be asked for by an editor or written in JSON; it is shown with replacements.
        yield Entry(
            path=path.decode("utf-8", "replace"),
            mode=mode.decode(),
            blob=blob.decode(),
            size=int(size) if size.isdigit() else 0,
            is_missing=size == b"BAD",
        )


def _overlaid(repo: Repository, committed: dict[str, Entry], max_bytes: int) -> dict[str, Entry]:
    """The working tree's files: tracked or not ignored. A file left out of a sparse checkout counts as committed."""
    assert repo.work_tree is not None
    entries = {}
    for listed in worktree.list_paths(repo.git):
        before = committed.get(listed.path)
        if listed.is_sparse and before is not None:
            entries[listed.path] = before
            continue
        if before is not None and (before.mode in ("120000", "160000") or language_is_unread(listed.path)):
            entries[listed.path] = before
            continue
        limit = _RULE_FILE_LIMIT if _is_rule_file(listed.path) else max_bytes
        found = worktree.read_file(repo.work_tree, listed.path, limit)
        if found is None:
            continue
        if found.content is None:
            entries[listed.path] = Entry(path=listed.path, mode="100644", blob="", size=found.size)
            continue
        entry = _entry_of(listed.path, found.content, len(repo.head))
        entries[listed.path] = replace(entry, content=None) if before and before.blob == entry.blob else entry
    return entries


def language_is_unread(path: str) -> bool:
    """Whether the bytes of a path can't matter, so that the working tree's version needn't be read."""
    return not _is_rule_file(path) and language_of_path(path) is None


def _is_rule_file(path: str) -> bool:
    return path == IGNORE_FILE or path.rpartition("/")[2] == _ATTRIBUTES_FILE


def _entry_of(path: str, content: bytes, id_length: int) -> Entry:
    """`content` as git would store it, but for filters and line ends, which would be commands and settings of the
    repository."""
    digest = hashlib.sha256() if id_length == 64 else hashlib.sha1(usedforsecurity=False)
    digest.update(b"blob %d\0" % len(content) + content)
    return Entry(path=path, mode="100644", blob=digest.hexdigest(), size=len(content), content=content)
