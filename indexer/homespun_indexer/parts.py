"""The segments of one snapshot, with what of them is alive in it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from homespun_indexer.datastore import Alive
from homespun_indexer.segment import IndexedFile, Segment
from homespun_indexer.snapshot import LiveSegment

Place = tuple[int, int]
"""A file: the number of its part, and its number in the part's segment."""


@dataclass(frozen=True, slots=True)
class Hit:
    """A chunk that was found. Scores of one ranking compare, no others."""

    score: float
    part: int
    chunk: int


class Part:
    """A segment and what of it is alive in this snapshot."""

    def __init__(self, path: Path, live: LiveSegment, digest: str, opened: Segment | None) -> None:
        self.segment = opened or Segment(path)
        self.digest = digest
        self.dead = live.dead
        self.changed = live.changed
        self.alive = None if not live.dead else ~np.isin(self.segment.file_of_chunk, list(live.dead))
        """By chunk; None: all are."""

    def alive_besides(self, file: int | None = None) -> Alive | None:
        """Whether the files are alive that have positions of the datastore; `file` doesn't count. None: all are."""
        gone = [*self.dead, *([] if file is None else [file])]
        return (lambda positions: ~np.isin(self.segment.files_of_tokens(positions), gone)) if gone else None

    def files(self) -> Iterator[tuple[int, IndexedFile]]:
        return ((i, f) for i, f in enumerate(self.segment.files) if i not in self.dead and f.reason is None)
