"""How much of a repository's source has changed between two commits, by the rules of the index."""

from __future__ import annotations

import re
from collections.abc import Container, Iterable
from dataclasses import dataclass

from homespun_core.config import Settings
from homespun_indexer import files
from homespun_indexer.git import GitFailed
from homespun_indexer.repository import Repository

_HUNK = re.compile(rb"^@@ -\d+(?:,(\d+))? \+\d+(?:,(\d+))? @@")
_OPTIONS = (
    "--unified=0",
    "--inter-hunk-context=0",
    "--find-renames",
    "-l400",
    "--no-color",
    "--no-ext-diff",  # these two would run programs that the repository names
    "--no-textconv",
    "--submodule=short",
    "--ignore-submodules=all",
    "--src-prefix=a/",
    "--dst-prefix=b/",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """In bytes of source."""

    added: int
    """In lines that are new or other than before; moving a file adds nothing."""
    total: int
    """At the newer commit."""


def changed_source(repo: Repository, *, settings: Settings, since: str | None) -> Change:
    """From `since` to the head. Where that commit is gone (its branch was pushed anew), all of it is new; where
    contents are missing (a partial clone), a changed file counts whole."""
    chosen = files.select(repo, settings=settings, commit=repo.head).candidates
    total = sum(candidate.size for candidate in chosen)
    if since is None or not _has(repo, since):
        return Change(added=total, total=total)
    added = _added(repo, since, {candidate.path.encode() for candidate in chosen})
    if added is None:
        known = {candidate.blob for candidate in files.select(repo, settings=settings, commit=since).candidates}
        added = sum(candidate.size for candidate in chosen if candidate.blob not in known)
    return Change(added=added, total=total)


def _has(repo: Repository, commit: str) -> bool:
    try:
        repo.git.text("rev-parse", "--verify", "--quiet", "--end-of-options", f"{commit}^{{commit}}")
    except GitFailed:
        return False
    return True


def _added(repo: Repository, since: str, paths: Container[bytes]) -> int | None:
    """None when git can't tell."""
    with repo.git.running("diff-tree", "-r", "--patch", *_OPTIONS, "--end-of-options", since, repo.head) as process:
        assert process.stdout is not None
        added = added_bytes(process.stdout, paths)
        return added if process.wait() == 0 else None


def added_bytes(patch: Iterable[bytes], paths: Container[bytes]) -> int:
    """Bytes of the added lines in files of these paths. A patch without context: inside a hunk nothing is a header,
    whatever it looks like. Paths that git quotes (quotes, control characters) don't count."""
    total = removed_left = added_left = 0
    counts = False
    for line in patch:
        if added_left and line.startswith(b"+"):
            added_left -= 1
            total += (len(line) - 1) * counts
        elif removed_left and line.startswith(b"-"):
            removed_left -= 1
        elif line.startswith(b"+++ "):
            counts = line[4:].rstrip(b"\t\r\n").removeprefix(b"b/") in paths
        elif (hunk := _HUNK.match(line)) is not None:
            removed_left, added_left = (1 if n is None else int(n) for n in hunk.groups())
    return total
