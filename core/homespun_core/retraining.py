"""What retraining remembers of a repository: written by the trainer, shown by `homespun status`.

It isn't the truth about adapters, the registry is; lost or damaged, it costs a look more and no adapter.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeVar

from homespun_core.acceptance import COMPARED_S
from homespun_core.storage import write_atomic

logger = logging.getLogger(__name__)

Row = TypeVar("Row")

_LEDGER, _DRIFT, _RECEPTION = "ledger.json", "drift.jsonl", "reception.jsonl"


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A training that was begun."""

    commit: str
    started: float
    """Seconds since 1970."""
    recipe: str
    """Digest of the settings and the base model it was begun with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ledger:
    running: Run | None = None
    """Begun and not known to have ended: it is going on, was paused, or we were killed."""
    last: Run | None = None
    """The last one that ended well, whatever the gate said, too little code to train on included."""
    failures: int = 0
    """Runs that failed since then."""
    failed_at: float | None = None
    decision: str = ""
    """What was decided last and why, for people."""


def read_ledger(folder: Path) -> Ledger:
    try:
        raw = json.loads((folder / _LEDGER).read_text(encoding="utf-8"))
        runs = {key: Run(**raw[key]) if raw[key] else None for key in ("running", "last")}
        return Ledger(**{**raw, **runs})
    except FileNotFoundError:
        return Ledger()
    except (OSError, ValueError, TypeError, KeyError) as error:
        logger.warning("%s: unreadable (%s); the registry says what was trained", folder / _LEDGER, error)
        return Ledger()


def write_ledger(folder: Path, ledger: Ledger) -> None:
    write_atomic(folder / _LEDGER, json.dumps(asdict(ledger), indent=1) + "\n")


@dataclass(frozen=True, slots=True, kw_only=True)
class FreshScore:
    """How likely the live adapter finds what was written after it was trained."""

    at: float
    """When it was measured, seconds since 1970."""
    adapter: str
    head: str
    """The newest commit of the places."""
    places: int
    bytes: int
    bits: float
    low: float | None
    """Bits per byte: the lower end of the 95 % interval over commits; None where all are of one, which says too little
    for an alarm."""
    baseline: float | None
    """Bits per byte on the held-out places when the adapter was judged."""
    is_alarm: bool
    accepted: float | None = None
    """Share of the shown completions, in the weeks before it was measured; None where too few were."""
    accepted_before: float | None = None
    """The same in the weeks before those."""

    @property
    def bits_per_byte(self) -> float:
        return self.bits / self.bytes

    @property
    def drift_percent(self) -> float | None:
        return 100 * (self.bits_per_byte / self.baseline - 1) if self.baseline else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Reception:
    """That people accept surely less of what the live adapter shows than before, or no longer do."""

    at: float
    """Seconds since 1970."""
    adapter: str
    lately: float
    """Share of the shown completions."""
    before: float
    is_fall: bool


def read_scores(folder: Path) -> list[FreshScore]:
    """In the order in which they were measured, whatever a clock said that was wrong once. A line that a killed writer
    left unfinished is passed over."""
    return _read(folder / _DRIFT, FreshScore)


def append_score(folder: Path, score: FreshScore) -> None:
    _append(folder / _DRIFT, asdict(score))


def read_receptions(folder: Path) -> list[Reception]:
    """As `read_scores`."""
    return _read(folder / _RECEPTION, Reception)


def append_reception(folder: Path, reception: Reception) -> None:
    _append(folder / _RECEPTION, asdict(reception))


def fall(receptions: Sequence[Reception], adapter: str | None, now: float) -> Reception | None:
    """The last one of the live adapter, if it is a fall that still says something: what was before it isn't, later."""
    own = [reception for reception in receptions if reception.adapter == adapter]
    return own[-1] if own and own[-1].is_fall and abs(now - own[-1].at) < COMPARED_S else None


def alarm(scores: Sequence[FreshScore], adapter: str | None) -> FreshScore | None:
    """The last score of the live adapter, if it is an alarm."""
    own = [score for score in scores if score.adapter == adapter]
    return own[-1] if own and own[-1].is_alarm else None


def _read(path: Path, kind: Callable[..., Row]) -> list[Row]:
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
    found = []
    for line in lines:
        try:
            found.append(kind(**json.loads(line)))
        except (ValueError, TypeError):
            continue
    return found


def _append(path: Path, row: Mapping[str, object]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as handle:
        handle.write("\n" * _ends_in_half_a_line(path) + json.dumps(row) + "\n")


def _ends_in_half_a_line(path: Path) -> bool:
    with path.open("rb") as handle:
        handle.seek(0, 2)
        if handle.tell() == 0:
            return False
        handle.seek(-1, 2)
        return handle.read(1) != b"\n"
