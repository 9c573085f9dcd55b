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
    path: str
    blob: str
    authors: tuple[str, ...]
    """Hashes that mean something in this data directory only."""


def write(folder: Path, documents: Iterable[Document], below: Path | None = None) -> None:
    """`below` is the adapter it was trained on top of: what that one knows, this one knows. Where that one doesn't say
    what it was trained on, neither can this one."""
    known = read(below) if below is not None else ()
    if known is None:
        return
    own = (Source(path=d.path, blob=d.blob, authors=d.authors) for d in documents)
    rows = map(asdict, dict.fromkeys((*known, *own)))
    (folder / NAME).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def read(folder: Path) -> tuple[Source, ...] | None:
    """None where it doesn't say, or can't be read: then it may have been anything."""
    try:
        lines = (folder / NAME).read_text(encoding="utf-8").splitlines()
        rows = map(json.loads, lines)
        return tuple(Source(path=r["path"], blob=r["blob"], authors=tuple(r["authors"])) for r in rows)
    except (OSError, ValueError, KeyError, TypeError):
        return None
