"""Where allow-listed repositories come from, and how they are read and searched: by the indexer."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from homespun_core.config import Settings
from homespun_core.errors import ConfigError, RepositoryError
from homespun_core.licence import is_licence_file
from homespun_core.paths import DataDir
from homespun_core.repositories import RepositoryConfig
from homespun_core.types import Document, ModelFiles, SearchQuery, SilentProgress, Snippet
from homespun_indexer import files as sources
from homespun_indexer.git import GitFailed
from homespun_indexer.indexing import index_repository
from homespun_indexer.reader import IndexReader
from homespun_indexer.repository import Repository, open_repository
from homespun_indexer.secrets import redact
from homespun_indexer.tokenizer import load_tokenizer
from homespun_indexer.tree import BlobReader, TreeMemory, list_entries
from homespun_trainer.examples import Retrieve
from homespun_trainer.pretrain import prepare, text
from homespun_trainer.pretrain.allowlist import Allowed
from homespun_trainer.pretrain.prepare import Share
from homespun_trainer.pretrain.text import Opened, Source

_MAX_FILE_KB = 120
"""Larger files aren't trained on; not reading them saves time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """The folder that the steps share."""

    root: Path

    @property
    def text(self) -> Path:
        return self.root / "text"

    @property
    def samples(self) -> Path:
        return self.root / "samples"

    @property
    def rows(self) -> Path:
        return self.root / "rows"

    @property
    def model(self) -> Path:
        return self.root / "model"

    @property
    def evaluations(self) -> Path:
        return self.root / "evaluations"

    @property
    def refused(self) -> Path:
        """JSON: repository -> why it was left out."""
        return self.text / "refused.json"

    def read_refused(self) -> dict[str, str]:
        return dict(json.loads(self.refused.read_text(encoding="utf-8"))) if self.refused.is_file() else {}

    def work(self, allowed: Allowed) -> DataDir:
        """Clone and index of one repository: its own, so that processes don't meet in a cache."""
        return DataDir(self.root / "work" / allowed.folder)

    def run(self, name: str) -> Path:
        if not name or name != Path(name).name or name.startswith("."):
            raise ConfigError(f"--run: {name!r} is no name of a folder; it is a part of --dir, not a path")
        return self.root / "runs" / name


@dataclass(frozen=True, slots=True, kw_only=True)
class Repositories:
    """Where allow-listed repositories come from, and how they are read."""

    place: Place
    settings: Settings
    mirrors: Path | None

    def is_at_hand(self, allowed: Allowed) -> bool:
        return self.mirrors is None or self._mirror(allowed) is not None

    def open(self, allowed: Allowed) -> Opened:
        """Raises RepositoryError: unreachable, or without the commit of the list."""
        repo = self._repository(allowed)
        commit = _full_commit(repo, allowed)
        return Opened(commit=commit, read=lambda: self._read(repo, commit))

    @contextmanager
    def search(self, allowed: Allowed, commit: str, shown: frozenset[str], model: ModelFiles) -> Iterator[Retrieve]:
        """The index as of the commit, of the files in `shown` alone; secrets are taken out of what it finds."""
        repo, settings, tokenizer = self._repository(allowed), self._reading, load_tokenizer(model)
        selection = sources.select(repo, settings=settings, commit=commit)
        index = index_repository(
            repo,
            settings=settings,
            data=self.place.work(allowed),
            model=model,
            tokenizer=tokenizer,
            progress=SilentProgress(),
            commit=commit,
            exclude=frozenset(candidate.path for candidate in selection.candidates) - shown,
        )
        with IndexReader.open(index, tokenizer) as reader:

            def retrieve(query: SearchQuery) -> Sequence[Snippet]:
                found = reader.search(query, settings.snippet_count)
                return [replace(snippet, text=redact(snippet.text)[0]) for snippet in found]

            yield retrieve

    @property
    def _reading(self) -> Settings:
        return replace(self.settings, uncommitted=False, max_file_kb=_MAX_FILE_KB, embedder="none", branch="")

    def _repository(self, allowed: Allowed) -> Repository:
        mirror = self._mirror(allowed)
        if mirror is None and self.mirrors is not None:
            raise RepositoryError(f"{allowed.name}: not in {self.mirrors}")
        where = str(mirror) if mirror else f"https://github.com/{allowed.name}"
        return open_repository(
            RepositoryConfig(source=where, name=allowed.short),
            self.place.work(allowed),
            timeout_s=self.settings.git_timeout_s,
            max_clone_mb=self.settings.max_clone_mb,
            progress=SilentProgress(),
        )

    def _mirror(self, allowed: Allowed) -> Path | None:
        """By its name alone: what else lies in the folder, or around it, is never looked at."""
        if self.mirrors is None:
            return None
        names = (allowed.folder, allowed.name)
        places = [self.mirrors / f"{name}{end}" for name in names for end in ("", ".git", "/repo")]
        return next((p for p in places if _is_repository(p)), None)

    def _read(self, repo: Repository, commit: str) -> Source:
        selection, found, refused = sources.read_sources(repo, settings=self._reading, commit=commit)
        return Source(
            licences=dict(_licence_texts(repo, commit)),
            documents=tuple(
                Document(path=f.path, language=f.language, blob=f.blob, text=redact(f.text)[0]) for f in found
            ),
            skipped=sources.count_reasons({**selection.skipped, **refused}),
        )


def _is_repository(place: Path) -> bool:
    """Itself: git would go on looking in the folders around it, and that may be anybody's."""
    return (place / ".git").is_dir() or all((place / name).exists() for name in ("HEAD", "objects", "refs"))


def _full_commit(repo: Repository, allowed: Allowed) -> str:
    if allowed.commit is None:
        return repo.head
    try:
        asked = f"{allowed.commit}^{{commit}}"
        return repo.git.text("rev-parse", "--verify", "--quiet", "--end-of-options", asked).strip()
    except GitFailed as error:
        raise RepositoryError(
            f"{allowed.name}: commit {allowed.commit} isn't there; fetch it, or take the head with --at-head"
        ) from error


def _licence_texts(repo: Repository, commit: str) -> Iterator[tuple[str, str]]:
    """(path, text)"""
    entries = list_entries(repo, commit, max_bytes=0, memory=TreeMemory())
    with BlobReader(repo) as blobs:
        for entry in entries:
            if entry.mode.startswith("100") and is_licence_file(entry.path):
                yield entry.path, (blobs.find(entry.blob) or b"").decode("utf-8", "replace")


def repositories_of(args: argparse.Namespace, settings: Settings, place: Place) -> Repositories:
    mirrors = args.mirrors.expanduser().absolute() if args.mirrors else None
    if mirrors is not None and not mirrors.is_dir():
        raise ConfigError(f"--mirrors: {mirrors} is no directory")
    return Repositories(place=place, settings=settings, mirrors=mirrors)


def shares_of(listed: Sequence[Allowed], place: Place, held_out: float) -> list[Share]:
    return prepare.shares(list(text.read(listed, place.text)), held_out)
