"""What an index snapshot is on disk: a list of segments, and which of their files are dead.

Segments are shared between snapshots as hard links: each snapshot is complete by itself, and a segment goes with the
last one that has it.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from homespun_core import storage
from homespun_core.errors import StorageError

KIND = "index"
FORMAT = 2
"""2: segments.json and the segments it names."""
_SEGMENTS = "segments.json"
_COMPACTED = "-c"
"""In the name of a snapshot that has the same content as the one without it, in better segments."""


class IndexState(StrEnum):
    """Whether the published index can be used as it is, and why not. Also the reason in the log."""

    MISSING = "missing"
    CORRUPT = "corrupt"
    FORMAT = "format"
    OPTIONS = "options"
    CONTENT = "content"
    EQUAL = "equal"
    WORN = "worn"
    """The same content, in too many segments, or with too much in them that is dead."""


@dataclass(frozen=True, slots=True)
class LiveSegment:
    """A segment of a snapshot: the name of its file there, the numbers of its dead files, and when each of its files
    was last changed (seconds since 1970; 0 where history doesn't tell)."""

    name: str
    dead: frozenset[int]
    changed: tuple[int, ...]


def write_segments(snapshot: Path, segments: Sequence[LiveSegment]) -> None:
    rows = [[segment.name, sorted(segment.dead), segment.changed] for segment in segments]
    storage.write_bytes(snapshot / _SEGMENTS, json.dumps(rows).encode())


def read_segments(snapshot: Path) -> tuple[LiveSegment, ...]:
    rows = json.loads((snapshot / _SEGMENTS).read_text(encoding="utf-8"))
    return tuple(LiveSegment(name, frozenset(dead), tuple(changed)) for name, dead, changed in rows)


def made_of(parent: Path, content: str) -> list[Path]:
    """Snapshots whose name begins like this, the one that was used last first."""
    found = [path for path in parent.glob(f"{content}*") if (path / storage.MANIFEST).is_file()]
    return sorted(found, key=lambda path: path.stat().st_mtime_ns, reverse=True)


def new_path(parent: Path, content: str, state: IndexState) -> Path:
    """Where no snapshot is yet: the one there may be damaged, and served all the same."""
    name = content + (_COMPACTED if state is IndexState.WORN else "")
    names = itertools.chain([name], (f"{name}-{number}" for number in itertools.count(2)))
    return next(path for path in map(parent.joinpath, names) if not (path / storage.MANIFEST).is_file())


def why_new(current: Path | None, options: str) -> IndexState:
    """Why another snapshot is needed than the current one, as far as its manifest tells."""
    if current is None:
        return IndexState.MISSING
    try:
        manifest = storage.read_manifest(current, KIND, FORMAT)
    except StorageError:
        return IndexState.FORMAT
    return IndexState.CONTENT if manifest.sources.get("options") == options else IndexState.OPTIONS
