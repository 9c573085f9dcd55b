"""What a commit holds, and what lies over it in the working tree: paths, blobs, bytes. Nothing is checked out."""

from __future__ import annotations

import hashlib
import logging
import sys
import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from homespun_core.errors import RepositoryError
from homespun_core.languages import language_of_path
from homespun_core.patterns import IGNORE_FILE
from homespun_indexer import worktree
from homespun_indexer.git import GitFailed
from homespun_indexer.repository import Repository

logger = logging.getLogger(__name__)

_ATTRIBUTES_FILE = ".gitattributes"
RULE_FILE_LIMIT = 1_000_000
_SAME_TIME_NS = 2_000_000_000
"""The coarsest clock of a common file system (FAT)."""


_FOLDER = "040000"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A path of a commit or working tree. `content` is set where the blob isn't in git: saved, but not committed. A
    folder whose tree can't be read stands for all that is in it; its path ends with a slash."""

    path: str
    mode: str
    blob: str
    size: int
    content: bytes | None = field(default=None, repr=False)
    is_missing: bool = False
    """Not in the object database: a partial clone, or a damaged one. Without a blob: in the working tree, but it can't
    be read."""

    @property
    def is_lost_folder(self) -> bool:
        return self.mode == _FOLDER


class TreeMemory:
    """What one process saw of one repository, so that its next look reads only what changed. For one thread."""

    def __init__(self) -> None:
        self._commit: tuple[str, list[Entry]] = ("", [])
        self._seen: dict[str, tuple[tuple[int, ...], Entry]] = {}

    def committed(self, repo: Repository, commit: str) -> list[Entry]:
        if self._commit[0] != commit:
            entries = _committed(repo, commit)
            if any(entry.is_lost_folder for entry in entries):  # it may be repaired the next time
                return entries
            self._commit = (commit, entries)
        return self._commit[1]

    def find(self, path: str, state: tuple[int, ...] | None, before: Entry | None) -> Entry | None:
        """The entry of a file of the working tree, unless it may have changed, or we no longer have its bytes."""
        known, entry = self._seen.get(path, (None, None))
        if entry is None or state is None or known != state:
            return None
        return entry if entry.content is not None or (before is not None and before.blob == entry.blob) else None

    def keep(self, path: str, state: tuple[int, ...] | None, entry: Entry) -> None:
        """Not when the file was just written: it could be written again at what the file system calls the same time."""
        if state is not None and time.time_ns() - max(state[-2:]) > _SAME_TIME_NS:
            self._seen[path] = (state, entry)

    def forget_others(self, paths: Collection[str]) -> None:
        self._seen = {path: seen for path, seen in self._seen.items() if path in paths}


def list_entries(repo: Repository, commit: str | None, *, max_bytes: int, memory: TreeMemory) -> list[Entry]:
    """Everything in the commit (None: head and working tree), sorted by path. Files of the working tree that are larger
    than `max_bytes` have no content, and no blob that git knows."""
    entries = {entry.path: entry for entry in memory.committed(repo, commit or repo.head)}
    if commit is None and repo.work_tree is not None:
        entries = _with_work_tree(repo, repo.work_tree, entries, max_bytes, memory)
    return [entries[path] for path in sorted(entries)]


def saved_rule_files(repo: Repository) -> list[Entry]:
    """Those of the working tree, committed or not; none where there is no working tree."""
    if repo.work_tree is None:
        return []
    paths = (listed.path for listed in worktree.list_paths(repo.git) if is_rule_file(listed.path))
    found = (_read(repo.work_tree, path, RULE_FILE_LIMIT, len(repo.head)) for path in paths)
    return [entry for entry in found if entry is not None]


class BlobReader:
    """Objects by id or `commit:path`, through one `git cat-file --batch`. A context manager; for one thread."""

    def __init__(self, repo: Repository) -> None:
        self._repo = repo
        self._running = repo.git.running("cat-file", "--batch")

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


def _committed(repo: Repository, commit: str) -> list[Entry]:
    try:
        return list(_listed(repo, commit, "-r"))
    except GitFailed:
        pass
    try:
        return list(_folder_by_folder(repo, commit))
    except GitFailed as error:
        raise RepositoryError(f"{repo.identity}: commit {commit} can't be read ({error.reason})") from error


def _folder_by_folder(repo: Repository, tree: str, parent: str = "") -> Iterator[Entry]:
    """Down to the damaged ones, which git's own listing ends at. Raises GitFailed where `tree` itself is."""
    for entry in _listed(repo, tree, parent=parent):
        if not entry.is_lost_folder:  # no folder at all
            yield entry
            continue
        try:
            yield from list(_listed(repo, entry.blob, "-r", parent=entry.path))
        except GitFailed:
            yield from _or_lost(repo, entry)


def _or_lost(repo: Repository, folder: Entry) -> Iterator[Entry]:
    try:
        yield from list(_folder_by_folder(repo, folder.blob, folder.path))
    except GitFailed as error:
        logger.warning("%s: %s can't be read (%s); run `git fsck` in the repository", repo.name, folder.path, error)
        yield folder


def _listed(repo: Repository, tree: str, *options: str, parent: str = "") -> Iterator[Entry]:
    for line in repo.git.output("ls-tree", *options, "-z", "-l", "--full-tree", "--end-of-options", tree).split(b"\0"):
        meta, tab, path = line.partition(b"\t")
        if not tab:
            continue
        mode, kind, blob, size = meta.split()
        # A path that isn't UTF-8 can't be asked for by an editor or written in JSON; it is shown with replacements.
        yield Entry(
            path=parent + path.decode("utf-8", "replace") + ("/" if kind == b"tree" else ""),
            mode=sys.intern(mode.decode()),  # a million of them otherwise
            blob=blob.decode(),
            size=int(size) if size.isdigit() else 0,
            is_missing=size == b"BAD",
        )


def _with_work_tree(
    repo: Repository, root: Path, committed: dict[str, Entry], max_bytes: int, memory: TreeMemory
) -> dict[str, Entry]:
    """The working tree's files: tracked or not ignored. A file left out of a sparse checkout counts as committed."""
    entries = {}
    for listed in worktree.list_paths(repo.git):
        before = committed.get(listed.path)
        if before is not None and (listed.is_sparse or _counts_as_committed(before)):
            entries[listed.path] = before
            continue
        state = worktree.state(root, listed.path)
        entry = memory.find(listed.path, state, before) or _read(root, listed.path, max_bytes, len(repo.head))
        if entry is None:
            continue
        if before is not None and before.blob in (entry.blob, _with_plain_line_ends(entry)):
            entry = before
        memory.keep(listed.path, state, entry)
        entries[listed.path] = entry
    memory.forget_others(entries.keys())
    return entries


def _counts_as_committed(entry: Entry) -> bool:
    """Whether the working tree's version needn't be read: links aren't followed, other files' bytes don't matter."""
    return entry.mode in ("120000", "160000") or _is_never_read(entry.path)


def _read(root: Path, path: str, max_bytes: int, id_length: int) -> Entry | None:
    found = worktree.read_file(root, path, RULE_FILE_LIMIT if is_rule_file(path) else max_bytes)
    if found is None:
        return None
    if found.content is None:
        return Entry(path=path, mode="100644", blob="", size=found.size, is_missing=not found.is_readable)
    return _entry_of(path, found.content, id_length)


def _is_never_read(path: str) -> bool:
    """Whether the bytes of a path can't matter, so that the working tree's version needn't be read."""
    return not is_rule_file(path) and language_of_path(path) is None


def is_rule_file(path: str) -> bool:
    return path == IGNORE_FILE or path.rpartition("/")[2] == _ATTRIBUTES_FILE


def _with_plain_line_ends(entry: Entry) -> str:
    """Its blob where git writes \\r\\n into working trees (`eol=crlf`, `core.autocrlf`) and \\n into commits."""
    if entry.content is None or b"\r\n" not in entry.content:
        return entry.blob
    return _entry_of(entry.path, entry.content.replace(b"\r\n", b"\n"), len(entry.blob)).blob


def _entry_of(path: str, content: bytes, id_length: int) -> Entry:
    """`content` as git would store it, but for filters and line ends, which would be commands and settings of the
    repository."""
    digest = hashlib.sha256() if id_length == 64 else hashlib.sha1(usedforsecurity=False)
    digest.update(b"blob %d\0" % len(content) + content)
    return Entry(path=path, mode="100644", blob=digest.hexdigest(), size=len(content), content=content)
