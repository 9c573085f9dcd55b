"""Which steps of the main line are one person's: all commits that a step brings in are theirs, merges aside."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from homespun_indexer.git import GitFailed
from homespun_indexer.history import LOOKED_AT, mainline, steps
from homespun_indexer.repository import Repository


@dataclass(frozen=True, slots=True)
class _Commit:
    parents: tuple[str, ...]
    authors: frozenset[str]
    """Hashes: the address as it is, and as .mailmap has it."""


def own_steps(repo: Repository, authors: Iterable[str], hashed: Callable[[str], str]) -> frozenset[str]:
    """Commits of the first-parent history. `authors` are hashes of somebody's addresses.

    A merged branch is one step, and its merge is often somebody else's; so it counts as whose commits are in it. Those
    who are only named as co-authors aren't asked for.
    """
    commits, mine = _commits(repo, functools.cache(hashed)), frozenset(authors)
    line = _first_parents(repo.head, commits)
    seen: set[str] = set()
    own = set()
    for commit in reversed(line):
        brought = [commits[id] for id in _unseen(commit, commits, seen)]
        written = [c for c in brought if len(c.parents) < 2]
        if written and all(c.authors & mine for c in written):
            own.add(commit)
    return frozenset(own)


def _commits(repo: Repository, hashed: Callable[[str], str]) -> Mapping[str, _Commit]:
    try:
        rows = repo.git.text("log", "--format=%H;%P;%ae;%aE", "--end-of-options", repo.head).splitlines()
    except GitFailed:  # a damaged clone: as if there were no history
        return {}
    found = {}
    for row in rows:
        id, parents, address, mapped = [*row.split(";", 3), "", "", ""][:4]
        found[id] = _Commit(tuple(parents.split()), frozenset((hashed(address), hashed(mapped))))
    return found


def _first_parents(head: str, commits: Mapping[str, _Commit]) -> list[str]:
    line = []
    while head in commits:
        line.append(head)
        head = next(iter(commits[head].parents), "")
    return line


def _unseen(commit: str, commits: Mapping[str, _Commit], seen: set[str]) -> list[str]:
    """What a step of the main line brings in, itself included; those before it must have been asked for."""
    found, waiting = [], [commit]
    while waiting:
        id = waiting.pop()
        if id in seen or id not in commits:
            continue
        seen.add(id)
        found.append(id)
        waiting += commits[id].parents
    return found


def own_bytes(repo: Repository, since: str | None, authors: Iterable[str], hashed: Callable[[str], str]) -> int:
    """Bytes of source that somebody's own steps added after that commit of the main line; where it isn't on it, of all
    steps that are looked at."""
    line, mine = mainline(repo, LOOKED_AT).commits, own_steps(repo, authors, hashed)
    end = line.index(since) if since in line else len(line)
    wanted = mine & set(line[:end])
    if not wanted:
        return 0
    found = (step for step in steps(repo, end) if step.commit in wanted and step.reason is None)
    lines = (line for step in found for file in step.files for added in file.added for line in added.lines)
    return sum(len(line.encode()) + 1 for line in lines)
