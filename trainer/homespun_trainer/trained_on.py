"""What an adapter was trained on, kept beside its weights: so that it can be found again by what must be forgotten."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from homespun_core.types import Document

NAME = "trained_on.jsonl"


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    repository: str | None
    """Id; None of an adapter from before they said it, which saw no other repository than its own."""
    path: str
    blob: str
    authors: tuple[str, ...]
    """Hashes that mean something in this data directory only."""


def sources_of(repository: str, documents: Iterable[Document]) -> list[Source]:
    return [Source(repository=repository, path=d.path, blob=d.blob, authors=d.authors) for d in documents]


def write(folder: Path, sources: Iterable[Source]) -> None:
    rows = map(asdict, sources)
    (folder / NAME).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def read(folder: Path) -> tuple[Source, ...] | None:
    """None where it doesn't say, or can't be read: then it may have been anything."""
    try:
        lines = (folder / NAME).read_text(encoding="utf-8").splitlines()
        rows = map(json.loads, lines)
        return tuple(
            Source(repository=r.get("repository"), path=r["path"], blob=r["blob"], authors=tuple(r["authors"]))
            for r in rows
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None
