"""The source files of a repository at a commit, or as they stand in the working tree now. Nothing is ever checked out.

A *candidate* is a path that may count, judged by its name and size alone; whether its text counts is known once it is
read (`filters.decode_source`). The index fingerprints candidates, so that an unchanged repository is recognised without
reading it.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from homespun_core.config import Settings
from homespun_core.languages import language_of_path
from homespun_indexer import filters
from homespun_indexer.patterns import Pattern, is_ignored, parse_attributes, parse_ignore
from homespun_indexer.repository import Repository
from homespun_indexer.tree import IGNORE_FILE, RULE_FILE_LIMIT, BlobReader, Entry, is_rule_file, list_entries

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


def read_contents(repo: Repository, wanted: Iterable[Candidate]) -> Iterator[tuple[Candidate, bytes]]:
    """Each candidate with its bytes, through one git process."""
    with BlobReader(repo) as blobs:
        for candidate in wanted:
            yield candidate, blobs.read(candidate.blob) if candidate.content is None else candidate.content


def count_reasons(skipped: Mapping[str, str]) -> dict[str, int]:
    return dict(Counter(skipped.values()).most_common())


class _Rules:
    """What the repository itself says about its files: .homespunignore at its root, .gitattributes anywhere."""

    def __init__(self, repo: Repository, entries: Iterable[Entry]) -> None:
        self._ignored: list[Pattern] = []
        self._attributes: list[tuple[Pattern, str, bool]] = []
        files = [e for e in entries if e.mode.startswith("100") and not e.is_missing and e.size < RULE_FILE_LIMIT]
        rule_files = [e for e in files if is_rule_file(e.path)]
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
