"""What a job is about: from the word a person, a forge or a page has for a repository to what the verbs are given."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from homespun_core import storage
from homespun_core.errors import StorageError
from homespun_core.paths import (
    DataDir,
    hide_credentials,
    is_remote,
    repo_id,
    repo_identity_on_disk,
    why_unreadable,
)
from homespun_core.personal import is_wanted, owner_of, repository_of
from homespun_core.repositories import RepositoryConfig
from homespun_core.scopes import ScopeConfig
from homespun_indexer import snapshot


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    repository: str
    """Its id."""
    source: str
    """For `homespun index` and its like; everybody may read it, so it holds no credentials."""


class Targets:
    def __init__(
        self, data: DataDir, repositories: Sequence[RepositoryConfig] = (), scopes: Sequence[ScopeConfig] = ()
    ) -> None:
        self._data, self._repositories, self._scopes = data, repositories, scopes

    @property
    def configured(self) -> list[Target]:
        """The repositories of the settings, indexed or not."""
        return [
            Target(repository=repo_id(config.source), source=config.name or hide_credentials(config.source))
            for config in self._repositories
        ]

    @property
    def keeping(self) -> frozenset[str]:
        """Ids of those whose completions are kept with their prompts."""
        return frozenset(_id_of(config.source) for config in self._repositories if config.keep_completions)

    def parts(self, id: str) -> frozenset[str]:
        """Ids of all that a job about it is about: a shared adapter's repositories, and itself."""
        scopes = (scope for scope in self._scopes if scope.id == id)
        return frozenset((id, *(repo_id(config.source) for scope in scopes for config in scope.repositories)))

    def find(self, word: str) -> Target | None:
        """By id, configured name or source, or the name of a shared adapter: of what is configured or indexed here; by
        its id, somebody's own adapter of one."""
        if owner_of(word) is None:
            return self._configured(word) or self._indexed(word)
        found = self.find(repository_of(word))
        return replace(found, repository=word) if found and is_wanted(self._data, owner_of(word) or "") else None

    def named(self, word: str) -> Target | None:
        """The same, or a repository that nobody has heard of yet, by its path or URL."""
        found = self.find(word)
        if found is not None or why_unreadable(word) or not word.strip():
            return found
        return Target(repository=_id_of(word), source=hide_credentials(word.strip()))

    def _configured(self, word: str) -> Target | None:
        for scope in self._scopes:
            if word in (scope.id, scope.name):
                return Target(repository=scope.id, source=scope.name)
        for config in self._repositories:
            id, shown = repo_id(config.source), hide_credentials(config.source)
            if word in (id, config.name, config.source, shown):
                return Target(repository=id, source=config.name or shown)
        return None

    def _indexed(self, word: str) -> Target | None:
        ids = (word, _id_of(word))
        for id in ids:
            is_folder = (self._data.index_root / id).parent == self._data.index_root and id not in ("", ".", "..")
            path = storage.current(self._data.index(id)) if is_folder else None
            source = self._source(path) if path else None
            if source is not None:
                return Target(repository=id, source=source)
        return None

    def _source(self, path: Path) -> str | None:
        """Where an index says that its code is from."""
        try:
            sources = storage.read_manifest(path, snapshot.KIND, snapshot.FORMAT).sources
        except StorageError:
            return None
        identity, urls = sources.get("repository", ""), sources.get("git_urls", "").split()
        return identity if identity.startswith("/") else hide_credentials(urls[0]) if urls else None


def _id_of(word: str) -> str:
    """As an index of it will have. A folder inside a repository is that repository."""
    return repo_id(word if is_remote(word) else repo_identity_on_disk(word))
