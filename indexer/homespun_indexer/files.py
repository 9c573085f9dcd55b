"""The source files of a repository at a commit, or as they stand in the working tree now. Nothing is ever checked out.

A *candidate* is a path that may count, judged by its name and size alone; whether its text counts is known once it is
read (`filters.decode_source`). The index fingerprints candidates, so that an unchanged repository is recognised without
reading it.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from homespun_core.config import Settings
from homespun_core.languages import language_of_path
from homespun_core.patterns import (
    IGNORE_FILE,
    MAX_PATTERNS,
    Pattern,
    is_ignored,
    parse_attributes,
    parse_globs,
    parse_ignore,
)
from homespun_core.repositories import SourceRules
from homespun_indexer import filters
from homespun_indexer.repository import Repository
from homespun_indexer.tree import (
    RULE_FILE_LIMIT,
    BlobReader,
    Entry,
    TreeMemory,
    is_rule_file,
    list_entries,
    saved_rule_files,
)

logger = logging.getLogger(__name__)

_ATTRIBUTES = {"linguist-generated": filters.GENERATED, "linguist-vendored": filters.VENDORED}


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
    """Selection, files that count, and (path -> reason) the candidates whose text doesn't, or can't be read."""
    selection = select(repo, settings=settings, commit=commit)
    found: list[SourceFile] = []
    refused: dict[str, str] = {}
    for candidate, raw in read_contents(repo, selection.candidates):
        text, reason = filters.decode_source(raw)
        if reason is None:
            found.append(SourceFile(path=candidate.path, language=candidate.language, blob=candidate.blob, text=text))
        else:
            refused[candidate.path] = reason
    log_skipped(repo, refused)
    return selection, found, refused


def select(
    repo: Repository,
    *,
    settings: Settings,
    commit: str | None = None,
    memory: TreeMemory | None = None,
    known: Callable[[], Iterable[Entry]] = tuple,
) -> Selection:
    """Candidates sorted by path, and why the other files are left out. Of folders that can't be read, those that are
    `known` count."""
    at = commit if commit or settings.uncommitted else repo.head
    entries = list_entries(repo, at, max_bytes=settings.max_file_kb * 1_000, memory=memory or TreeMemory())
    if lost := tuple(entry.path for entry in entries if entry.is_lost_folder):
        entries = sorted([*entries, *(e for e in known() if e.path.startswith(lost))], key=lambda entry: entry.path)
    wanted, rules = _Wanted(repo.rules), _Rules(repo, entries)
    candidates: list[Candidate] = []
    skipped: dict[str, str] = {}
    room = (repo.max_repo_mb or settings.max_repo_mb) * 1_000_000
    for entry in entries:
        language = language_of_path(entry.path)
        reason = _reason(entry, language.name if language else None, wanted, rules, settings)
        if reason is None and entry.size > room:
            reason = filters.REPOSITORY_LIMIT
        if reason is not None or language is None:
            skipped[entry.path] = reason or filters.UNKNOWN_LANGUAGE
            continue
        room -= entry.size
        candidates.append(
            Candidate(path=entry.path, language=language.name, blob=entry.blob, size=entry.size, content=entry.content)
        )
    log_skipped(repo, skipped)
    return Selection(candidates=tuple(candidates), skipped=skipped)


def rules_now(repo: Repository, *, settings: Settings) -> RulesNow:
    entries = list_entries(repo, repo.head, max_bytes=settings.max_file_kb * 1_000, memory=TreeMemory())
    saved = saved_rule_files(repo) if settings.uncommitted else []
    return RulesNow(_committed=_Rules(repo, entries), _saved=_Rules(repo, saved))


def log_skipped(repo: Repository, reasons: Mapping[str, str]) -> None:
    """For whoever misses a file. Paths are quoted: one may hold a line break, and what looks like a line of ours."""
    if logger.isEnabledFor(logging.DEBUG):
        for path, reason in reasons.items():
            logger.debug("%s: skipped %r: %s", repo.name, path, reason)


def read_contents(repo: Repository, wanted: Iterable[Candidate]) -> Iterator[tuple[Candidate, bytes | None]]:
    """Each candidate with its bytes; None for one that can't be read, because the repository is damaged there."""
    source = _Source(repo)
    try:
        for candidate in wanted:
            yield candidate, source.read(candidate) if candidate.content is None else candidate.content
    finally:
        source.close()


def count_reasons(skipped: Mapping[str, str]) -> dict[str, int]:
    return dict(Counter(skipped.values()).most_common())


class _Source:
    """Blobs through one git process, and another when a damaged object has ended it."""

    def __init__(self, repo: Repository) -> None:
        self._repo = repo
        self._blobs: BlobReader | None = None

    def read(self, candidate: Candidate) -> bytes | None:
        try:
            if self._blobs is None:
                self._blobs = BlobReader(self._repo).__enter__()
            raw = self._blobs.find(candidate.blob)
        except OSError:  # git has ended: the pipe is broken
            raw = None
        if raw is not None and len(raw) == candidate.size:
            return raw
        logger.warning("%s: %s can't be read; run `git fsck` in the repository", self._repo.name, candidate.path)
        self.close()
        return None

    def close(self) -> None:
        blobs, self._blobs = self._blobs, None
        if blobs is not None:
            blobs.__exit__(None, None, None)


class _Wanted:
    """What the configuration says about the files of a repository."""

    def __init__(self, rules: SourceRules) -> None:
        self._languages = frozenset(rules.languages)
        self._include, self._exclude = parse_globs(rules.include), parse_globs(rules.exclude)

    def reason(self, path: str, language: str) -> str | None:
        if self._languages and language not in self._languages:
            return filters.OTHER_LANGUAGE
        if self._include and not is_ignored(path, self._include):
            return filters.NOT_INCLUDED
        return filters.EXCLUDED if is_ignored(path, self._exclude) else None


class _Rules:
    """What the repository itself says about its files: .homespunignore at its root, .gitattributes anywhere."""

    def __init__(self, repo: Repository, entries: Iterable[Entry]) -> None:
        self._ignored: list[Pattern] = []
        self._attributes: list[tuple[Pattern, str, bool]] = []
        files = [e for e in entries if e.mode.startswith("100") and not e.is_missing and e.size < RULE_FILE_LIMIT]
        self._read(repo, [e for e in files if is_rule_file(e.path)])

    def _read(self, repo: Repository, rule_files: Iterable[Entry]) -> None:
        """Folders in the order of their depth: deeper ones override."""
        texts = _rule_texts(repo, sorted(rule_files, key=lambda e: (e.path != IGNORE_FILE, e.path.count("/"))))
        for path, text in texts:
            room = MAX_PATTERNS - len(self._ignored) - len(self._attributes)
            if path == IGNORE_FILE:
                self._ignored += parse_ignore(text, limit=room)
            else:
                self._attributes += parse_attributes(text, filters.folder(path), _ATTRIBUTES, limit=room)

    def reason(self, path: str) -> str | None:
        if is_ignored(path, self._ignored):
            return filters.IGNORED
        found = [rule for rule in self._attributes if rule[0].literal in path and rule[0].matches(path)]
        if not found:
            return None
        values = {name: value for _, name, value in found}
        return next((_ATTRIBUTES[name] for name, value in values.items() if value), None)

    def key(self) -> list[tuple[str, str, bool]]:
        """The same for rules that say the same."""
        ignored = [(p.expression.pattern, IGNORE_FILE, p.negated) for p in self._ignored]
        return ignored + [(p.expression.pattern, name, value) for p, name, value in self._attributes]


@dataclass(frozen=True, slots=True, kw_only=True)
class RulesNow:
    """What a repository says about its files by now, at its head and, where the index reads it, in its working tree: it
    holds for earlier commits, too."""

    _committed: _Rules
    _saved: _Rules

    def reason(self, names: Iterable[str]) -> str | None:
        """Why a file is left out, by any of its paths; None if it isn't."""
        found = (rules.reason(name) for name in names for rules in (self._committed, self._saved))
        return next((reason for reason in found if reason), None)

    def uncommitted(self) -> list[tuple[str, str, bool]]:
        """What the commit doesn't tell; empty if it tells all."""
        saved = self._saved.key()
        return saved if saved != self._committed.key() else []


def _rule_texts(repo: Repository, rule_files: Iterable[Entry]) -> Iterator[tuple[str, str]]:
    wanted = [Candidate(path=e.path, language="", blob=e.blob, size=e.size, content=e.content) for e in rule_files]
    for candidate, raw in read_contents(repo, wanted):
        if raw is not None:
            yield candidate.path, raw.decode("utf-8", "replace")


def _reason(entry: Entry, language: str | None, wanted: _Wanted, rules: _Rules, settings: Settings) -> str | None:
    if entry.is_lost_folder:
        return filters.DAMAGED_FOLDER
    if entry.mode == "120000":
        return filters.SYMLINK
    if entry.mode == "160000":
        return filters.SUBMODULE
    reason = filters.path_reason(entry.path)
    if reason is not None:
        return reason
    if language is None:
        return filters.UNKNOWN_LANGUAGE
    if entry.is_missing:
        return filters.MISSING if entry.blob else filters.UNREADABLE
    if entry.size > settings.max_file_kb * 1_000:
        return filters.TOO_LARGE
    return wanted.reason(entry.path, language) or rules.reason(entry.path)
