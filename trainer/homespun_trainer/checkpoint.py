"""The state of a training run on disk, so that a run killed at any moment goes on where it was.

A checkpoint is a snapshot like every other: written under a temporary name, published by rename, every file with its
SHA-256. Safetensors and JSON only: nothing that could run code when it is read.
"""

from __future__ import annotations

import json
import logging
import shutil
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from homespun_core import storage
from homespun_core.errors import StorageError
from homespun_core.storage import Manifest

logger = logging.getLogger(__name__)

KIND = "checkpoint"
FORMAT_VERSION = 1
"""1: weights, best and optimiser as safetensors, state.json."""
PATIENCE = 4
"""Looks at the held-out examples without gain after which a run ends."""


@dataclass(slots=True, kw_only=True)
class RunState:
    """How far a run is. Example numbers follow from `step`, the learning rate from `elapsed_s`."""

    step: int = 0
    elapsed_s: float = 0.0
    """Seconds of training so far, of all processes that worked on this run."""
    tokens: int = 0
    """Tokens the model has read, prompts included."""
    targets: float = 0.0
    """Tokens it was asked for, each by its weight."""
    losses: list[tuple[int, float, float]] = field(default_factory=list)
    """(tokens so far, seconds so far, mean loss per target token since the last entry)"""
    dev_losses: list[tuple[int, float]] = field(default_factory=list)
    """(step, loss on the held-out examples)"""
    best_step: int | None = None
    checks_without_gain: int = 0
    is_done: bool = False

    def note_held_out(self, loss: float) -> bool:
        """Note the loss on the held-out examples; whether it is the lowest so far. Ends the run after long without
        gain."""
        is_best = all(loss < earlier for _, earlier in self.dev_losses)
        self.dev_losses.append((self.step, loss))
        self.checks_without_gain = 0 if is_best else self.checks_without_gain + 1
        if is_best:
            self.best_step = self.step
        self.is_done = self.is_done or self.checks_without_gain >= PATIENCE
        return is_best


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    state: RunState
    weights: dict[str, torch.Tensor]
    optimiser: dict[str, torch.Tensor]
    best: dict[str, torch.Tensor]
    """The weights with the lowest loss on the held-out examples; empty before the first look."""


def save(run: Path, fingerprint: str, checkpoint: Checkpoint) -> None:
    """Publish a checkpoint as the run's current one; the one before it goes."""
    state = checkpoint.state
    name = f"step-{state.step:08d}-{int(state.elapsed_s * 1000):012d}"
    manifest = Manifest(kind=KIND, format_version=FORMAT_VERSION, fingerprint=fingerprint, sources={})
    with storage.publish_dir(run / name, manifest) as tmp:
        for part in ("weights", "optimiser", "best"):
            save_file({k: v.contiguous() for k, v in getattr(checkpoint, part).items()}, tmp / f"{part}.safetensors")
        (tmp / "state.json").write_text(json.dumps(asdict(state)) + "\n", encoding="utf-8")
    storage.set_current(run, name)
    storage.prune(run, keep=1)


def load(run: Path, fingerprint: str) -> Checkpoint | None:
    """The run's checkpoint, if there is one. One that is damaged or of other inputs is deleted; the log says why."""
    path = storage.current(run)
    if path is None:
        return None
    try:
        manifest = storage.read_manifest(path, KIND, FORMAT_VERSION)
        storage.verify(path, manifest)
        if manifest.fingerprint != fingerprint:
            raise StorageError(f"{path}: belongs to another corpus, base model or recipe")
        return _read(path)
    except StorageError as error:
        logger.warning("training starts anew, the checkpoint is not used: %s", error)
        discard(run)
        return None


def discard(run: Path) -> None:
    """Forget the run: it is finished, or of no use."""
    shutil.rmtree(run, ignore_errors=True)


def _read(path: Path) -> Checkpoint:
    raw = json.loads((path / "state.json").read_text(encoding="utf-8"))
    raw["losses"] = [(int(t), float(s), float(x)) for t, s, x in raw["losses"]]
    raw["dev_losses"] = [(int(s), float(x)) for s, x in raw["dev_losses"]]
    parts = {part: load_file(path / f"{part}.safetensors") for part in ("weights", "optimiser", "best")}
    return Checkpoint(state=RunState(**raw), **parts)


def optimiser_tensors(optimiser: torch.optim.Optimizer, names: list[str]) -> dict[str, torch.Tensor]:
    """AdamW's moments and step counts as named tensors."""
    state = optimiser.state_dict()["state"]
    return {f"{names[i]}/{key}": value.cpu() for i, entry in state.items() for key, value in entry.items()}


def restore_optimiser(optimiser: torch.optim.Optimizer, names: list[str], tensors: dict[str, torch.Tensor]) -> None:
    state: dict[int, dict[str, torch.Tensor]] = {}
    index = {name: i for i, name in enumerate(names)}
    for key, value in tensors.items():
        name, _, kind = key.rpartition("/")
        state.setdefault(index[name], {})[kind] = value
    optimiser.load_state_dict({"state": state, "param_groups": optimiser.state_dict()["param_groups"]})
