"""Which learning rate: one short run with each of a few, whole with its warm-up and decay, judged on held-out examples.

They are taken from the time that training has. What a trial found is written down, and a trial that is killed goes on
from its checkpoint, as the run does.
"""

from __future__ import annotations

import json
import logging
import math
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from homespun_core import storage
from homespun_trainer.train import TrainResult

logger = logging.getLogger(__name__)

FACTORS = (0.5, 1.0, 2.0)
"""Of the usual learning rate."""
SHARE = 0.05
"""Of the time, for each trial."""
FROM_MINUTES = 20.0
"""A shorter run tries only when it is told to: its trials would be a minute or less, in which the noise decides."""

_FILE, _FOLDER = "trials.json", "trials"

Train = Callable[[float, Path], TrainResult]
"""A run with this learning rate, in this folder."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    learning_rate: float
    loss: float
    """The lowest on the held-out examples."""
    steps: int

    @property
    def order(self) -> float:
        return self.loss if math.isfinite(self.loss) else math.inf


def is_wanted(setting: str, minutes: float, learning_rate: float, num_held_out: int) -> bool:
    """Whether a run begins with trials. `learning_rate` is the setting: who gives one knows it."""
    if setting == "off" or not num_held_out:
        return False
    return setting == "on" or (minutes >= FROM_MINUTES and not learning_rate)


def sweep(run: Path, fingerprint: str, rates: Sequence[float], train: Train) -> Sequence[Trial]:
    """In the order of `rates`; those that are known already are not made again. What is of another run goes."""
    known = _read(run / _FILE, fingerprint)
    if known is None:
        shutil.rmtree(run, ignore_errors=True)
        _write(run / _FILE, fingerprint, known := {})
    for rate in rates:
        if rate not in known:
            state = train(rate, run / _FOLDER / f"{rate:g}").state
            known[rate] = Trial(
                learning_rate=rate, loss=min((x for _, x in state.dev_losses), default=math.inf), steps=state.step
            )
            _write(run / _FILE, fingerprint, known)
            logger.info("learning rate %g: loss %.4f on held-out examples", rate, known[rate].loss)
    shutil.rmtree(run / _FOLDER, ignore_errors=True)
    return [known[rate] for rate in rates]


def best(trials: Sequence[Trial], usual: float) -> float:
    """The learning rate of the lowest loss; the usual one where none came to anything."""
    first = min(trials, key=lambda t: t.order)
    return first.learning_rate if math.isfinite(first.loss) else usual


def _read(path: Path, fingerprint: str) -> dict[float, Trial] | None:
    """None where nothing was begun, or something else."""
    try:
        raw: Mapping[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if raw["fingerprint"] != fingerprint:
            return None
        return {row["learning_rate"]: Trial(**row) for row in raw["trials"]}
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _write(path: Path, fingerprint: str, known: Mapping[float, Trial]) -> None:
    rows = [asdict(trial) for trial in known.values()]
    storage.write_atomic(path, json.dumps({"fingerprint": fingerprint, "trials": rows}, indent=1) + "\n")
