"""The index that a server has had while it followed a repository, as of one commit after another."""

from __future__ import annotations

from contextlib import suppress
from types import TracebackType

from homespun_core.config import Settings
from homespun_core.errors import NoSourceFiles, RepositoryError
from homespun_core.paths import DataDir
from homespun_core.types import ModelFiles, Progress, SilentProgress, Tokenizer
from homespun_indexer.build import SpareBuilder, build_segment
from homespun_indexer.history import mainline
from homespun_indexer.indexing import IndexMemory, index_repository
from homespun_indexer.reader import IndexReader
from homespun_indexer.repository import Repository

_MAX_COMMITS = 50_000
_FOLDER = "past"
"""Not among the indexes of training, which would be pushed out."""


class Past:
    """One index at a time: the next one costs what has changed between the two, and a full one the first time. For one
    thread."""

    def __init__(
        self,
        repo: Repository,
        settings: Settings,
        data: DataDir,
        model: ModelFiles,
        tokenizer: Tokenizer,
        exclude: frozenset[str] = frozenset(),
    ) -> None:
        self._repo, self._settings, self._data = repo, settings, data
        self._model, self._tokenizer, self._exclude = model, tokenizer, exclude
        self._memory = IndexMemory(spare=SpareBuilder(build_segment))
        self._commits = mainline(repo, _MAX_COMMITS).commits
        self._ages = {commit: age for age, commit in enumerate(self._commits)}
        self._at: tuple[str, IndexReader] | None = None

    def before(self, commit: str) -> IndexReader | None:
        """What was indexed when somebody wrote a commit of the main line; None where there was no code then.

        Raises RepositoryError where the commit is none of these, or nothing is known of the time before."""
        age = self.age(commit)
        if age + 1 >= len(self._commits):
            raise RepositoryError(f"{self._repo.identity}: nothing is known of the time before {commit}")
        with suppress(NoSourceFiles):
            return self.at(self._commits[age + 1])
        return None

    def age(self, commit: str) -> int:
        """How many commits of the main line came after it. Raises RepositoryError where it isn't on that."""
        if commit not in self._ages:
            raise RepositoryError(f"{self._repo.identity}: {commit} isn't on the main line of {self._repo.branch}")
        return self._ages[commit]

    def at(self, commit: str, progress: Progress | None = None) -> IndexReader:
        """Raises NoSourceFiles where there is nothing to index."""
        if self._at is None or self._at[0] != commit:
            path = index_repository(
                self._repo,
                settings=self._settings,
                data=self._data,
                model=self._model,
                tokenizer=self._tokenizer,
                progress=progress or SilentProgress(),
                commit=commit,
                exclude=self._exclude,
                folder=_FOLDER,
                memory=self._memory,
            )
            previous = self._at[1] if self._at else None
            self._at = commit, IndexReader.open(path, self._tokenizer, previous)
        return self._at[1]

    def __enter__(self) -> Past:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._memory.spare is not None:
            self._memory.spare.close()
