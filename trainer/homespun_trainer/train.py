"""Training one adapter within a time budget: a plain loop that can be killed at any moment and goes on where it was."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from homespun_core.types import ModelFiles, Progress
from homespun_trainer import checkpoint
from homespun_trainer.batches import target_weight
from homespun_trainer.checkpoint import Checkpoint, RunState
from homespun_trainer.examples import Batches, Example
from homespun_trainer.launched import workers_for
from homespun_trainer.learner import Learner, Plan
from homespun_trainer.lora import save_adapter
from homespun_trainer.methods import default_learning_rate
from homespun_trainer.parallel import Helpers
from homespun_trainer.placement import Placement
from homespun_trainer.quantising import FULL
from homespun_trainer.stacking import compose
from homespun_trainer.surprise import MAX_SURPRISAL
from homespun_trainer.trained_on import COMPOSED

logger = logging.getLogger(__name__)

_SAVE_EVERY_S = 30.0
_SAVE_SHARE = 0.05
"""Saving a large adapter takes long; it may take this share of the time."""
_CURVE_POINTS = 50
_CHECKS = 10
"""Looks at the held-out examples in one run."""
_STEPS_BETWEEN = 8
"""At least, so that a run on a slow machine isn't ended by a few steps at a high learning rate."""


class TrainingInterruptedError(Exception):
    """Training was asked to stop, and its checkpoint is saved."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """Everything that shapes an adapter, apart from corpus and base model; part of its fingerprint."""

    rank: int
    learning_rate: float
    """Peak; 0 chooses by model size."""
    minutes: float
    seed: int
    method: str = "lora"
    on_top_of: str | None = None
    """Digest of the adapter below."""
    base_format: str = FULL
    dropout: float = 0.0
    max_targets: float = 0.0
    """Tokens it may be asked for, which ends training on little code though there be time; 0 is any number."""
    batch_examples: int = 8
    prompt_tokens: int = 384
    """Length of a training prompt at most, 0 for the server's; shorter ones show more places in the same time. Bits per
    byte against the base model after 0.2M tokens: -0.077 with 384, -0.055 with 960 (benchmarks/LOG.md)."""
    warm_up: float = 0.03
    """Share of the time in which the learning rate rises; then it falls as a cosine to `final`, a share of the peak."""
    final: float = 0.05
    max_surprisal: float = MAX_SURPRISAL
    """Nats at the mean of a few tokens in a row; what is more surprising isn't learned (`surprise`). 0: all is."""
    strength: float = 1.0
    """Of the change that was learned, the share that the adapter keeps; all of it but for plain LoRAs."""
    weight_decay: float = 0.01
    beta2: float = 0.99
    clip: float = 1.0

    def as_json(self) -> dict[str, float | int | str | None]:
        return asdict(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainResult:
    path: Path
    """A directory with the adapter in peft's form."""
    state: RunState
    learning_rate: float
    num_trainable: int

    @property
    def kept_step(self) -> int:
        """The step whose weights these are."""
        return self.state.step if self.state.best_step is None else self.state.best_step


def learning_rate_at(fraction: float, recipe: Recipe, peak: float) -> float:
    """The learning rate when `fraction` of the run is over: the schedule follows the clock, not a number of steps that
    nobody knows in advance on a machine that does other things too."""
    if fraction < recipe.warm_up:
        return peak * (fraction + 0.1 * recipe.warm_up) / (1.1 * recipe.warm_up)
    done = min(1.0, (fraction - recipe.warm_up) / (1 - recipe.warm_up))
    return peak * (recipe.final + (1 - recipe.final) * 0.5 * (1 + math.cos(math.pi * done)))


def train_adapter(
    files: ModelFiles,
    stream: Batches,
    held_out: Sequence[Example],
    recipe: Recipe,
    *,
    placement: Placement,
    run: Path,
    fingerprint: str,
    progress: Progress,
    should_stop: Callable[[], bool],
    clock: Callable[[], float] = time.monotonic,
    parent: Path | None = None,
    num_processes: int = 1,
    title: str = "training the adapter",
) -> TrainResult:
    """Train until the time is over or `held_out` stops improving, from the run's checkpoint if it has one.

    With a `parent`, a plain LoRA, training starts on top of it, and the result is both, composed into one. Raises
    TrainingInterruptedError after saving a checkpoint, once `should_stop` says so.
    """
    plan = Plan(
        files=files,
        placement=placement,
        method=recipe.method,
        rank=recipe.rank,
        dropout=recipe.dropout,
        base_format=recipe.base_format,
        max_surprisal=recipe.max_surprisal,
        seed=recipe.seed,
        parent=parent,
    )
    learner = Learner(plan)  # first, so that a model of no use is found here and not in the others
    with closing(workers_for(plan, num_processes)) as workers:
        training = _Training(plan, learner, workers, recipe, run, fingerprint, clock)
        progress.start(title, total=round(recipe.minutes * 60), unit="s", done=training.done_s)
        training.run_to_end(stream, held_out, progress, should_stop)
        return training.result()


class _Training:
    def __init__(
        self,
        plan: Plan,
        learner: Learner,
        workers: Helpers,
        recipe: Recipe,
        run: Path,
        fingerprint: str,
        clock: Callable[[], float],
    ) -> None:
        self._learner, self._workers, self._masters = learner, workers, learner.masters
        self._peak = recipe.learning_rate or default_learning_rate(recipe.method, learner.num_base_parameters)
        self._optimiser = torch.optim.AdamW(
            self._masters.parameters, betas=(0.9, recipe.beta2), weight_decay=recipe.weight_decay
        )
        self._recipe, self._run, self._fingerprint, self._clock = recipe, run, fingerprint, clock
        self._base_name, self._parent = plan.files.name, plan.parent
        self._best: dict[str, torch.Tensor] = {}
        self.state = self._restore()
        self._last_save = self._last_step = clock()
        self._save_seconds = 0.0
        self._before = 0.0
        """`_fraction` before the last step."""
        self._window: list[float] = []

    def run_to_end(
        self,
        stream: Batches,
        held_out: Sequence[Example],
        progress: Progress,
        should_stop: Callable[[], bool],
    ) -> None:
        if self.state.step and not self.state.is_done:
            logger.info("training goes on at step %d, %.0f s", self.state.step, self.state.elapsed_s)
        self._work(stream, held_out, progress, should_stop)
        progress.finish(f"{self.state.step} steps, {self.state.tokens:,} tokens")

    def _work(
        self,
        stream: Batches,
        held_out: Sequence[Example],
        progress: Progress,
        should_stop: Callable[[], bool],
    ) -> None:
        self._last_step = self._clock()
        # One batch is made while the one before it is trained on: retrieval and tokenising take a few per cent of a
        # step.
        with ThreadPoolExecutor(max_workers=1, thread_name_prefix="examples") as pool:
            upcoming = self._prepare(pool, stream, self.state.step)
            while not self.state.is_done:
                batch = upcoming.result()
                upcoming = self._prepare(pool, stream, self.state.step + 1)
                if not self._step(batch, should_stop):
                    self._save()
                    raise TrainingInterruptedError
                self._after_step(held_out)
                progress.advance(self.done_s, self._note())

    def result(self) -> TrainResult:
        path = own = self._run / "adapter"
        weights = self._best or self._masters.copy()
        save_adapter(self._learner.model, weights, self._base_name, own, self._recipe.strength)
        if self._parent is not None:
            path = self._run / COMPOSED
            compose([self._parent, own], path, self._base_name)
        count = sum(t.numel() for t in weights.values())
        return TrainResult(path=path, state=self.state, learning_rate=self._peak, num_trainable=count)

    @property
    def _budget_s(self) -> float:
        return self._recipe.minutes * 60

    @property
    def done_s(self) -> int:
        """Of the budget."""
        return round(min(self._fraction, 1.0) * self._budget_s)

    @property
    def _fraction(self) -> float:
        """Of the run that is over: by time, or by how much was gone through where that is further."""
        limit = self._recipe.max_targets
        return max(self.state.elapsed_s / self._budget_s, self.state.targets / limit if limit else 0.0)

    def _prepare(self, pool: ThreadPoolExecutor, stream: Batches, step: int) -> Future[list[Example]]:
        return pool.submit(stream.batch, step, self._recipe.batch_examples)

    def _step(self, batch: Sequence[Example], should_stop: Callable[[], bool]) -> bool:
        """One step of the optimiser; False when it was given up half-way because training shall stop."""
        weight = target_weight(batch)
        if self._recipe.dropout:  # what is dropped in a step doesn't depend on where the run was interrupted
            torch.manual_seed(self._recipe.seed * 1_000_003 + self.state.step)
        loss = self._learner.accumulate(self._workers.share_out(batch, weight, self._masters), weight, should_stop)
        if loss is None:
            return False
        loss = self._workers.sum_up(self._masters, loss)
        for group in self._optimiser.param_groups:
            group["lr"] = learning_rate_at(self._fraction, self._recipe, self._peak)
        norm = torch.nn.utils.clip_grad_norm_(self._masters.parameters, self._recipe.clip)
        if torch.isfinite(norm):
            self._optimiser.step()
            self._masters.publish()
        else:
            logger.warning("step %d skipped: its gradient is not finite", self.state.step)
        self._masters.forget_gradients()
        self._window.append(loss)
        self.state.step += 1
        self.state.tokens += sum(len(example.ids) for example in batch)
        self._before, self.state.targets = self._fraction, self.state.targets + weight
        return True

    def _after_step(self, held_out: Sequence[Example]) -> None:
        now = self._clock()
        self.state.elapsed_s += now - self._last_step
        self._last_step = now
        if self._passed(_CURVE_POINTS):
            self.state.losses.append((self.state.tokens, round(self.state.elapsed_s, 1), self._recent_loss()))
            self._window.clear()
        self.state.is_done = self._fraction >= 1.0
        if held_out and (self.state.is_done or self._is_check_due()):
            self._check(held_out)
        if self.state.is_done or now - self._last_save >= max(_SAVE_EVERY_S, self._save_seconds / _SAVE_SHARE):
            self._save()

    def _passed(self, marks: int) -> bool:
        """Whether one of `marks` equal parts of the run ended with this step."""
        return int(self._before * marks) < int(self._fraction * marks)

    def _is_check_due(self) -> bool:
        last = self.state.dev_losses[-1][0] if self.state.dev_losses else 0
        return self.state.step - last >= _STEPS_BETWEEN and self._passed(_CHECKS)

    def _check(self, held_out: Sequence[Example]) -> None:
        """Look at the held-out examples; keep the best weights, and end when nothing has improved for long."""
        was_done = self.state.is_done
        if self.state.note_held_out(self._learner.held_out_loss(held_out)):
            self._best = self._masters.copy()
        if self.state.is_done and not was_done:
            logger.info("training ends early: no gain on held-out examples since step %s", self.state.best_step)

    def _recent_loss(self) -> float:
        return round(sum(self._window) / len(self._window), 4) if self._window else math.nan

    def _note(self) -> str:
        rate = self.state.tokens / self.state.elapsed_s if self.state.elapsed_s else 0.0
        loss = self._recent_loss() if self._window else self.state.losses[-1][2]
        return f"loss {loss:.3f}, {rate:,.0f} tokens/s"

    def _save(self) -> None:
        started = self._clock()
        names = list(self._masters.tensors)
        checkpoint.save(
            self._run,
            self._fingerprint,
            Checkpoint(
                state=self.state,
                weights=self._masters.copy(),
                optimiser=checkpoint.optimiser_tensors(self._optimiser, names),
                best=self._best,
            ),
        )
        self._last_save = self._clock()
        self._save_seconds = self._last_save - started

    def _restore(self) -> RunState:
        saved = checkpoint.load(self._run, self._fingerprint)
        if saved is None:
            return RunState()
        self._masters.restore(saved.weights)
        checkpoint.restore_optimiser(self._optimiser, list(self._masters.tensors), saved.optimiser)
        self._best = saved.best
        return saved.state
