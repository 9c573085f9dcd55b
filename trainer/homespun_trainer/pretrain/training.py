"""The training loop: rows in, weights out, killed at any moment and going on where it was.

The schedule follows the share of the budget that is used (tokens, minutes, or both): the rate rises over the first
steps, stays, and falls in a straight line to its end; the second phase of the data begins at a share of its own. With a
budget of tokens alone, a run that was interrupted ends in the same weights as one that wasn't.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from homespun_core.errors import ModelError
from homespun_core.types import Progress
from homespun_trainer.checkpoint import optimiser_tensors, restore_optimiser
from homespun_trainer.lora import Masters
from homespun_trainer.placement import Placement
from homespun_trainer.pretrain import state as states
from homespun_trainer.pretrain.loss import summed_loss, targets
from homespun_trainer.pretrain.model import is_hidden_matrix, place
from homespun_trainer.pretrain.muon import Muon
from homespun_trainer.pretrain.samples import PHASES
from homespun_trainer.pretrain.shards import Shards, held_out, row_order
from homespun_trainer.pretrain.state import Checkpoint, State
from homespun_trainer.train import TrainingInterruptedError

logger = logging.getLogger(__name__)

BATCH_TOKENS = {"cpu": 8_192, "cuda": 262_144}
MICRO_TOKENS = {"cpu": 4_096, "cuda": 65_536}
_SAVE_EVERY_S, _SAVE_SHARE = 60.0, 0.03
_CURVE_POINTS, _LOOKS = 200, 10
_HELD_OUT_ROWS = {"cpu": 8, "cuda": 128}
"""Of each part."""
_LOOK_SHARE = 0.05
_MOST_SKIPPED = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """Everything that shapes the weights, apart from data and first weights."""

    tokens: int | None
    """Budget; None is bounded by minutes alone."""
    minutes: float | None
    batch_tokens: int
    micro_tokens: int
    """Of one forward pass: memory and speed, not the result."""
    seed: int
    muon_rate: float = 0.02
    adam_rate: float = 3e-3
    weight_decay: float = 0.05
    """Of the hidden matrices, times the learning rate."""
    momentum: float = 0.95
    warm_up: int = 150
    """Steps in which the rate rises."""
    decay: float = 0.3
    """Share of the budget, at its end, in which the rate falls to `final`, a share of its peak."""
    final: float = 0.02
    second_phase: float = 0.55
    """Share of the budget after which rows are those of the second phase."""

    def fraction(self, state: State) -> float:
        """Share of the budget that is used."""
        by_tokens = state.tokens / self.tokens if self.tokens else 0.0
        by_time = state.elapsed_s / (60 * self.minutes) if self.minutes else 0.0
        return max(by_tokens, by_time)

    def rate(self, state: State) -> float:
        """Of the peak rates."""
        falling = max(self.final, (1 - self.fraction(state)) / self.decay) if self.decay else 1.0
        return min(1.0, (state.step + 1) / max(1, self.warm_up), falling)

    def shaping(self) -> dict[str, Any]:
        """What must be the same when a run goes on; the budget may change."""
        return {k: v for k, v in asdict(self).items() if k not in ("tokens", "minutes", "micro_tokens")}


def pretrain(
    model: Any,
    shards: Shards,
    recipe: Recipe,
    *,
    placement: Placement,
    run: Path,
    fingerprint: str,
    facts: Mapping[str, Any],
    progress: Progress,
    should_stop: Callable[[], bool],
    is_compiled: bool = False,
    clock: Callable[[], float] = time.monotonic,
) -> State:
    """Train until the budget is used, from the run's checkpoint if it has one. `model` is in fp32 and changed in place.

    Raises TrainingInterruptedError after saving, once `should_stop` says so; StorageError when `run` holds another run;
    ModelError when the loss stays infinite, and the last checkpoint is as it was.
    """
    training = _Pretraining(model, shards, recipe, placement, run, fingerprint, facts, is_compiled, clock)
    if training.state.step:
        logger.info("pretraining goes on at step %d, %d tokens", training.state.step, training.state.tokens)
    unit = "tokens" if recipe.tokens else "s"
    progress.start("pretraining", total=training.total, unit=unit, done=training.done)
    training.work(progress, should_stop)
    progress.finish(f"{training.state.step:,} steps, {training.state.tokens:,} tokens")
    return training.state


class _Pretraining:
    def __init__(
        self,
        model: Any,
        shards: Shards,
        recipe: Recipe,
        placement: Placement,
        run: Path,
        fingerprint: str,
        facts: Mapping[str, Any],
        is_compiled: bool,
        clock: Callable[[], float],
    ) -> None:
        self._masters = Masters(model)  # before the model is rounded
        self._model = place(model, placement).train()
        self._masters.tensors = {name: t.to(placement.device) for name, t in self._masters.tensors.items()}
        self._set_compiled(is_compiled)
        self._head = model.get_output_embeddings().weight
        self._shards, self._recipe, self._device = shards, recipe, placement.device
        self._run, self._fingerprint, self._facts, self._clock = run, fingerprint, facts, clock
        self._names, self._optimisers = _optimisers(self._masters.tensors, recipe, placement)
        self._micro_tokens = recipe.micro_tokens
        self._window: list[float] = []
        self._num_skipped = 0
        self.state = self._restored()
        self._last_save = self._last_step = clock()
        self._save_seconds = self._look_seconds = 0.0

    @property
    def total(self) -> int:
        return self._recipe.tokens or round(60 * (self._recipe.minutes or 0))

    @property
    def done(self) -> int:
        return round(min(1.0, self._recipe.fraction(self.state)) * self.total)

    def work(self, progress: Progress, should_stop: Callable[[], bool]) -> None:
        self._last_step = self._clock()
        while self._recipe.fraction(self.state) < 1:
            before = self._recipe.fraction(self.state)
            if not self._step(should_stop):
                self._save()
                raise TrainingInterruptedError
            self._after_step(before)
            progress.advance(self.done, self._note())

    def _step(self, should_stop: Callable[[], bool]) -> bool:
        """One step of the optimisers; False when it was given up half-way because training shall stop."""
        phase = self._phase()
        ids = self._next_rows(phase)
        following = targets(ids, self._shards.pad)
        count = max(1, int((following >= 0).sum()))
        total = self._accumulated(ids, following, count, should_stop)
        if total is None:
            self._masters.forget_gradients()
            return False
        self.state.rows[phase] = self.state.rows.get(phase, 0) + len(ids)
        self.state.tokens += int((ids != self._shards.pad).sum())
        if np.isfinite(total) and self._are_gradients_finite():
            self._update()
            self._window.append(total)
            self._num_skipped = 0
        else:
            self._skip(total)
        self._masters.forget_gradients()
        self.state.step += 1
        return True

    def _are_gradients_finite(self) -> bool:
        return all(t.grad is None or bool(torch.isfinite(t.grad).all()) for t in self._masters.parameters)

    def _skip(self, total: float) -> None:
        self._num_skipped += 1
        logger.warning("step %d skipped: its loss is %s, or its gradients aren't finite", self.state.step, total)
        if self._num_skipped >= _MOST_SKIPPED:
            raise ModelError(
                f"pretraining: {_MOST_SKIPPED} steps in a row can't be learned from (loss {total}); the last checkpoint"
                " is kept: export it, and go on --from that under another --run, with a lower --muon-rate and"
                " --adam-rate"
            )

    def _accumulated(
        self, ids: torch.Tensor, following: torch.Tensor, count: int, should_stop: Callable[[], bool]
    ) -> float | None:
        """Mean loss, with its gradients in the masters; None when it was asked to stop."""
        while True:
            rows = max(1, self._micro_tokens // ids.shape[1])
            total = torch.zeros((), device=self._device)
            try:
                for part, wanted in zip(ids.split(rows), following.split(rows), strict=True):
                    if should_stop():
                        return None
                    loss = self._loss(part, wanted) / count
                    loss.backward()
                    self._masters.collect()
                    total += loss.detach()
                return float(total)
            except torch.OutOfMemoryError:
                if rows == 1:
                    raise
                self._masters.forget_gradients()
                self._micro_tokens = self._micro_tokens // 2
                logger.warning("out of memory: %d tokens in a forward pass from now on", self._micro_tokens)
            except RuntimeError as error:  # whatever a compiler raises, or what it made
                if not self._is_compiled:
                    raise
                logger.warning("compiled layers fail (%s), so they aren't compiled", type(error).__name__)
                self._masters.forget_gradients()
                self._set_compiled(False)

    def _set_compiled(self, wanted: bool) -> None:
        for layer in self._model.model.layers:  # one by one: seconds instead of minutes
            layer._compiled_call_impl = None
            if wanted:
                layer.compile(dynamic=False)
        self._is_compiled = wanted

    def _loss(self, ids: torch.Tensor, following: torch.Tensor) -> torch.Tensor:
        hidden = self._model.model(input_ids=ids).last_hidden_state
        return summed_loss(hidden.flatten(0, 1), self._head, following.flatten())

    def _update(self) -> None:
        share = self._recipe.rate(self.state)
        for optimiser, peak in zip(self._optimisers, (self._recipe.muon_rate, self._recipe.adam_rate), strict=True):
            for group in optimiser.param_groups:
                group["lr"] = peak * share
            optimiser.step()
        self._masters.publish()

    def _phase(self) -> str:
        """The phase of the schedule; the other one where that has no rows."""
        first, second = (phase.name for phase in PHASES)
        wanted = second if self._recipe.fraction(self.state) >= self._recipe.second_phase else first
        other = first if wanted == second else second
        return wanted if self._shards.num_rows(wanted) else other

    def _next_rows(self, phase: str) -> torch.Tensor:
        row_tokens = next(p.row_tokens for p in PHASES if p.name == phase)
        numbers = row_order(
            self._shards.num_rows(phase),
            seed=self._recipe.seed,
            part=phase,
            first=self.state.rows.get(phase, 0),
            count=max(1, self._recipe.batch_tokens // row_tokens),
        )
        return torch.from_numpy(self._shards.take(phase, numbers)).to(self._device)

    def _after_step(self, before: float) -> None:
        now = self._clock()
        self.state.elapsed_s += now - self._last_step
        self._last_step = now
        fraction = min(1.0, self._recipe.fraction(self.state))
        if self._window and _passed(before, fraction, _CURVE_POINTS):
            loss = round(sum(self._window) / len(self._window), 4)
            self.state.losses.append((self.state.tokens, round(self.state.elapsed_s, 1), loss))
            self._window.clear()
        if _passed(before, fraction, _LOOKS) and self._may_look(fraction):
            self._look()
        if fraction >= 1 or now - self._last_save >= max(_SAVE_EVERY_S, self._save_seconds / _SAVE_SHARE):
            self._save()

    def _may_look(self, fraction: float) -> bool:
        """At the end in any case; before, as long as looks take a small share of the time."""
        return fraction >= 1 or self._look_seconds <= _LOOK_SHARE * self.state.elapsed_s

    def _look(self) -> None:
        """At rows of held-out files."""
        started = self._clock()
        self._model.eval()
        for phase in PHASES:
            part = held_out(phase.name)
            numbers = np.arange(min(_HELD_OUT_ROWS[self._device.type], self._shards.num_rows(part)))
            if len(numbers):
                self.state.held_out.append(
                    (self.state.tokens, phase.name, round(self._held_out_loss(part, numbers), 4))
                )
        self._model.train()
        self._look_seconds += self._clock() - started

    @torch.inference_mode()
    def _held_out_loss(self, part: str, numbers: Any) -> float:
        total = count = 0.0
        for number in numbers:
            ids = torch.from_numpy(self._shards.take(part, number[None])).to(self._device)
            following = targets(ids, self._shards.pad)
            total += float(self._loss(ids, following))
            count += int((following >= 0).sum())
        return total / max(1.0, count)

    def _note(self) -> str:
        rate = self.state.tokens / self.state.elapsed_s if self.state.elapsed_s else 0.0
        loss = self._window[-1] if self._window else self.state.losses[-1][2] if self.state.losses else float("nan")
        return f"loss {loss:.3f}, {rate:,.0f} tokens/s"

    def _save(self) -> None:
        started = self._clock()
        moments = [optimiser_tensors(o, n) for o, n in zip(self._optimisers, self._names, strict=True)]
        checkpoint = Checkpoint(
            state=self.state,
            weights=self._masters.copy(),
            optimiser={name: tensor for part in moments for name, tensor in part.items()},
            facts=self._facts,
        )
        states.save(self._run, self._fingerprint, checkpoint)
        self._last_save = self._clock()
        self._save_seconds = self._last_save - started

    def _restored(self) -> State:
        saved = states.load(self._run, self._fingerprint)
        if saved is None:
            return State()
        self._masters.restore(saved.weights)
        for optimiser, names in zip(self._optimisers, self._names, strict=True):
            own = {key: value for key, value in saved.optimiser.items() if key.rpartition("/")[0] in set(names)}
            restore_optimiser(optimiser, names, own)
        return saved.state


def _optimisers(
    tensors: Mapping[str, torch.Tensor], recipe: Recipe, placement: Placement
) -> tuple[list[list[str]], list[torch.optim.Optimizer]]:
    """Muon for the matrices inside the layers, AdamW for the rest; names of what each steps."""
    hidden = [name for name, tensor in tensors.items() if is_hidden_matrix(name, tensor)]
    others = [name for name in tensors if name not in set(hidden)]
    muon = Muon(
        [tensors[name] for name in hidden],
        lr=recipe.muon_rate,
        momentum=recipe.momentum,
        weight_decay=recipe.weight_decay,
        dtype=placement.dtype,
    )
    adam = torch.optim.AdamW(
        [tensors[name] for name in others], lr=recipe.adam_rate, betas=(0.9, 0.95), eps=1e-10, weight_decay=0.0
    )
    return [hidden, others], [muon, adam]


def _passed(before: float, now: float, marks: int) -> bool:
    """Whether one of `marks` equal parts of the budget ended in between."""
    return int(before * marks) < int(now * marks)
