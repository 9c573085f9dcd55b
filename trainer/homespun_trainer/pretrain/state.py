"""A pretraining run on disk, so that one killed at any moment goes on where it was. Safetensors and JSON only."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from homespun_core import storage
from homespun_core.errors import StorageError
from homespun_core.storage import Manifest

KIND, FORMAT = "pretraining run", 1
"""1: weights and optimiser as safetensors, state.json."""


@dataclass(slots=True, kw_only=True)
class State:
    """How far a run is. Which rows come next follows from `rows`, the learning rate from tokens and time."""

    step: int = 0
    tokens: int = 0
    """Tokens read, without padding."""
    elapsed_s: float = 0.0
    """Seconds of training, of all processes that worked on this run."""
    rows: dict[str, int] = field(default_factory=dict)
    """Phase -> rows drawn."""
    losses: list[tuple[int, float, float]] = field(default_factory=list)
    """(tokens, seconds, mean loss per token since the last entry)"""
    held_out: list[tuple[int, str, float]] = field(default_factory=list)
    """(tokens, phase, loss per token on rows of held-out files)"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    state: State
    weights: dict[str, torch.Tensor]
    """fp32, by the model's own names."""
    optimiser: dict[str, torch.Tensor]
    facts: Mapping[str, Any]
    """What the run was started with: recipe, size, where it runs."""


def save(run: Path, fingerprint: str, checkpoint: Checkpoint) -> None:
    """Publish it as the run's current one; the one before it goes."""
    state = checkpoint.state
    name = f"step-{state.step:08d}-{int(state.elapsed_s * 1000):012d}"
    manifest = Manifest(
        kind=KIND, format_version=FORMAT, fingerprint=fingerprint, sources={}, info=dict(checkpoint.facts)
    )
    with storage.publish_dir(run / name, manifest) as tmp:
        for part in ("weights", "optimiser"):
            save_file({k: v.contiguous() for k, v in getattr(checkpoint, part).items()}, tmp / f"{part}.safetensors")
        (tmp / "state.json").write_text(json.dumps(asdict(state)) + "\n", encoding="utf-8")
    storage.set_current(run, name)
    storage.prune(run, keep=1)


def facts(run: Path) -> Mapping[str, Any]:
    """What the run was last started with; nothing of a new one."""
    path = storage.current(run)
    return storage.read_manifest(path, KIND, FORMAT).info if path is not None else {}


def load(run: Path, fingerprint: str | None = None) -> Checkpoint | None:
    """The run's checkpoint, if there is one. Raises StorageError when it is damaged or of another run: days of work
    aren't thrown away unasked."""
    while (path := storage.current(run)) is not None:
        try:
            return _read(run, path, fingerprint)
        except (OSError, StorageError):
            if storage.current(run) == path:  # else it was being trained on, and the one after it took its place
                raise
    return None


def _read(run: Path, path: Path, fingerprint: str | None) -> Checkpoint:
    manifest = storage.read_manifest(path, KIND, FORMAT)
    storage.verify(path, manifest)
    if fingerprint is not None and manifest.fingerprint != fingerprint:
        raise StorageError(
            f"{run}: holds a run with other data or settings; give this one another --run, or delete that folder"
        )
    raw = json.loads((path / "state.json").read_text(encoding="utf-8"))
    raw["losses"] = [(int(t), float(s), float(x)) for t, s, x in raw["losses"]]
    raw["held_out"] = [(int(t), str(p), float(x)) for t, p, x in raw["held_out"]]
    parts = {part: load_file(path / f"{part}.safetensors") for part in ("weights", "optimiser")}
    return Checkpoint(state=State(**raw), facts=manifest.info, **parts)
