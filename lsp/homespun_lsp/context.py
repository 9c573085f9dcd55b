"""Where a completion is wanted, and what of the file is sent with it. Pure, except for finding the repository."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from homespun_core.prompt import anchored
from homespun_core.types import Trigger
from homespun_lsp.documents import Document
from homespun_lsp.pieces import Piece
from homespun_lsp.positions import plain_line_ends
from homespun_lsp.repository import Repositories
from homespun_lsp.uris import path_of

_PREFIX_CHARS = 8_000
_SUFFIX_CHARS = 4_000
_MAX_LINE_TOKENS = 32
"""As the server's own limit for the rest of a line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a completion is wanted."""

    document: Document
    """As the editor had it when it asked."""
    text: str
    """The document's text, with the entry chosen in the editor's suggestion list, if any, already put in."""
    offset: int
    num_chosen: int = 0
    """Characters before `offset` that come from that entry; some of them may be in the document already."""

    def after(self, completion: str) -> Place:
        """Where the cursor will be once that is accepted: the editor writes the line ends of the file."""
        added = completion.replace("\n", "\r\n") if "\r\n" in self.text else completion
        text = self.text[: self.offset] + added + self.text[self.offset :]
        return Place(document=self.document, text=text, offset=self.offset + len(added))


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """What the server is asked."""

    prefix: str
    suffix: str
    path: str | None
    language: str
    repo: str | None
    commit: str | None = None
    """What the working tree stands at."""
    pieces: Sequence[Piece] = ()
    """Of other open files."""
    is_block: bool = True
    """Whether several lines are wanted."""
    trigger: Trigger = "typed"

    @property
    def about(self) -> Mapping[str, object]:
        """What our server is told beyond what others understand; nothing where a value is the usual one."""
        trigger = None if self.trigger == "typed" else self.trigger
        snippets = [{"path": piece.path, "text": piece.text} for piece in self.pieces]
        names = {"path": self.path, "language": self.language, "repo": self.repo, "commit": self.commit}
        return {**names, "trigger": trigger, "snippets": snippets}

    @property
    def stop(self) -> Sequence[str]:
        return [] if self.is_block else ["\n"]

    def max_tokens(self, limit: int) -> int:
        return limit if self.is_block else min(limit, _MAX_LINE_TOKENS)


def rest_of_line(text: str, offset: int) -> str:
    ends = [at for at in (text.find("\n", offset), text.find("\r", offset)) if at >= 0]
    return text[offset : min(ends, default=len(text))]


def query_at(place: Place, folders: tuple[Path, ...], repositories: Repositories) -> Query:
    prefix, suffix = window(place.text, place.offset)
    path, repo = _names(place.document.uri, folders, repositories)
    return Query(prefix=prefix, suffix=suffix, path=path, language=place.document.language, repo=repo)


def window(text: str, offset: int) -> tuple[str, str]:
    """The whole lines around the cursor that fit, with \\n as line ends: models have hardly seen others."""
    start, end = anchored(text, offset - _PREFIX_CHARS, offset), offset + _SUFFIX_CHARS
    if end < len(text):
        last_line_end = text.rfind("\n", offset, end)
        end = last_line_end + 1 if last_line_end >= 0 else end
    return plain_line_ends(text[start:offset]), plain_line_ends(text[offset:end])


def _names(uri: str, folders: tuple[Path, ...], repositories: Repositories) -> tuple[str | None, str | None]:
    """Path and repository. Relative to the repository, else to a folder of the workspace, else absolute."""
    name = path_of(uri)
    if not name:
        return None, None
    path = Path(name)
    repository = repositories.of(path)
    if repository is not None:
        return path.relative_to(repository.root).as_posix(), repository.name
    folder = next((f for f in folders if path.is_relative_to(f)), None)
    return path.relative_to(folder).as_posix() if folder else path.as_posix(), None
