"""What was seen of a candidate in the shadow of the live adapter: numbers in a file beside it, no code."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

logger = logging.getLogger(__name__)

FILE = "SHADOW.jsonl"
_MAX_BYTES = 4_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """Beside what was written there in the end."""

    champion_right: bool
    """Whether the line that it suggested is that line."""
    candidate_right: bool
    champion_bits: float
    candidate_bits: float
    bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ShadowFact:
    """One place that both completed; or where the candidate failed."""

    time: float
    candidate: str
    champion: str | None
    """The version that was live there, or was lent from elsewhere."""
    agrees: bool = False
    """In the first line."""
    champion_ms: float | None = None
    """For each token, the prompt aside: the live one finds it computed, the candidate doesn't."""
    candidate_ms: float | None = None
    failed: bool = False
    written: Written | None = None


def append(adapters: Path, fact: ShadowFact) -> None:
    """What was seen of an earlier candidate goes; and what fills the file, once something else is live. What can't be
    written is lost, and said."""
    path = adapters / FILE
    try:
        if not _goes_on(path, fact):
            path.unlink(missing_ok=True)
        with path.open("ab", buffering=0) as handle:  # one write: other servers may add to it too
            if os.fstat(handle.fileno()).st_size < _MAX_BYTES:
                handle.write(json.dumps(asdict(fact)).encode() + b"\n")
    except OSError as error:
        logger.warning("%s: not written (%s)", path, error)


def read(adapters: Path, candidate: str, champion: str | None) -> list[ShadowFact]:
    """Of these two: once another champion is live the facts begin anew. A line that was cut off is left out."""
    try:
        lines = (adapters / FILE).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
    found = (_fact(line) for line in lines)
    return [f for f in found if f is not None and (f.candidate, f.champion) == (candidate, champion)]


def discard(adapters: Path) -> None:
    (adapters / FILE).unlink(missing_ok=True)


def _goes_on(path: Path, fact: ShadowFact) -> bool:
    try:
        with path.open(encoding="utf-8", errors="replace") as handle:
            first, size = _fact(handle.readline()), os.fstat(handle.fileno()).st_size
    except OSError:
        return True
    if first is None or first.candidate != fact.candidate:
        return False
    return size < _MAX_BYTES or first.champion == fact.champion


def _fact(line: str) -> ShadowFact | None:
    try:
        raw: Mapping[str, Any] = json.loads(line)
        written = Written(**raw["written"]) if raw["written"] else None
        return ShadowFact(**{**raw, "written": written})
    except (ValueError, TypeError, KeyError):
        return None
