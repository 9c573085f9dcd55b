"""What an adapter was trained on, may have had in prompts or was judged by, kept beside its weights: so that it can be
found again by what must be forgotten."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

NAME = "trained_on.jsonl"
COMPOSED = "composed"
"""In a training run: the adapter with the weights of what it was trained on top of, which saw other things."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    repository: str | None
    """Id; None of an adapter from before they said it, which saw no other repository than its own."""
    path: str
    blob: str
    authors: tuple[str, ...]
    """Hashes that mean something in this data directory only."""
    names: tuple[str, ...] = ()
    """Other paths that it had by then; an adapter from before they said it has none."""

    @property
    def all_names(self) -> tuple[str, ...]:
        return (self.path, *self.names)


class File(Protocol):
    @property
    def path(self) -> str: ...

    @property
    def blob(self) -> str: ...

    @property
    def authors(self) -> tuple[str, ...]: ...

    @property
    def names(self) -> tuple[str, ...]: ...


def sources_of(repository: str, files: Iterable[File]) -> list[Source]:
    return [Source(repository=repository, path=f.path, blob=f.blob, authors=f.authors, names=f.names) for f in files]


def write(folder: Path, sources: Iterable[Source]) -> None:
    rows = map(asdict, sources)
    (folder / NAME).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def read(folder: Path) -> tuple[Source, ...] | None:
    """None where it doesn't say, or can't be read: then it may have been anything."""
    try:
        lines = (folder / NAME).read_text(encoding="utf-8").splitlines()
        rows = map(json.loads, lines)
        return tuple(map(_source, rows))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _source(row: dict[str, Any]) -> Source:
    return Source(
        repository=row.get("repository"),
        path=row["path"],
        blob=row["blob"],
        authors=tuple(row["authors"]),
        names=tuple(row.get("names", ())),
    )
