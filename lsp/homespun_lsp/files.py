"""What is known of the open files beyond their text: path, repository, and whether anything of them may be sent."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from homespun_core.secret_files import may_hold_secrets
from homespun_lsp.asking import MAX_FILE_CHARS, File, is_language_off
from homespun_lsp.documents import Document
from homespun_lsp.head import commit_of
from homespun_lsp.ignored import By, ignored_by
from homespun_lsp.lately import Lately
from homespun_lsp.options import Options
from homespun_lsp.repository import Repositories, Repository
from homespun_lsp.uris import path_of


class Files:
    def __init__(self, repositories: Repositories) -> None:
        self._repositories = repositories
        self._repository = Lately(repositories.of)
        self._ignored = Lately(self._ignored_by)
        self._commit = Lately(commit_of)

    async def of(self, document: Document, options: Options, *, has_several_cursors: bool = False) -> File:
        path = _path(document)
        by = await self._ignored.get(path) if path else None
        return File(
            is_language_off=is_language_off(document.language, options.languages),
            may_hold_secrets=path is not None and may_hold_secrets(path.name),
            is_ignored=by == "homespun" or (by == "git" and not options.ignored_files),
            has_several_cursors=has_several_cursors,
        )

    async def commit(self, document: Document) -> str | None:
        """What the working tree it lies in stands at."""
        repository = await self._repository_of(document)
        return await self._commit.get(repository.root) if repository else None

    async def siblings(self, document: Document, others: Sequence[Document], options: Options) -> dict[str, str]:
        """By URI, the path of those that lie in the same repository and may be sent: whoever may see one file of a
        repository may see the others, and of anything else that isn't known."""
        repository = await self._repository_of(document)
        found = {}
        for other in others if repository else ():
            path, file = _path(other), await self.of(other, options)
            kept = file.may_hold_secrets or file.is_ignored or len(other.text) > MAX_FILE_CHARS
            if path and not kept and await self._repository_of(other) == repository:
                assert repository is not None
                found[other.uri] = path.relative_to(repository.root).as_posix()
        return found

    async def _repository_of(self, document: Document) -> Repository | None:
        path = _path(document)
        return await self._repository.get(path) if path else None

    def _ignored_by(self, path: Path) -> By | None:
        repository = self._repositories.of(path)
        return ignored_by(path, repository.root) if repository else None


def _path(document: Document) -> Path | None:
    name = path_of(document.uri)
    return Path(name) if name else None
