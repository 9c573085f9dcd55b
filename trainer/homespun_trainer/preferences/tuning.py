"""`homespun train --preferences`: on top of the adapter that people have, judged like every other one, and by whether
what people took is likelier than what they dismissed."""

from __future__ import annotations

import math
import random
import time
from calendar import timegm
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from homespun_core import storage
from homespun_core.errors import ModelError, TooLittleCode
from homespun_core.estimates import spelled
from homespun_core.types import Progress
from homespun_trainer import page, report
from homespun_trainer.canaries import Canary, CanaryStream, make_canaries, planted
from homespun_trainer.checkpoint import RunState
from homespun_trainer.control import control_of, is_settled, live_adapter
from homespun_trainer.examples import Example
from homespun_trainer.interrupt import deferred_signals
from homespun_trainer.intervals import Estimate, Share, change
from homespun_trainer.job import Job
from homespun_trainer.judging import JudgeEngine, Planted, judge
from homespun_trainer.learner import Plan
from homespun_trainer.lora import save_adapter
from homespun_trainer.methods import default_learning_rate
from homespun_trainer.pipeline import Made, made_before, prompts_of, recipe_of
from homespun_trainer.placement import Placement, choose_placement
from homespun_trainer.preferences.kto import BETA, Tuner, balanced, by_length
from homespun_trainer.preferences.rows import (
    DISMISSED,
    TAKEN,
    Preference,
    Shown,
    before,
    elsewhere,
    preferences,
    split,
)
from homespun_trainer.publishing import Outcome, offered, publish, same_as_last
from homespun_trainer.quantising import FULL
from homespun_trainer.stacking import compose, read_plain_lora
from homespun_trainer.train import Recipe, TrainingInterruptedError, TrainResult, learning_rate_at
from homespun_trainer.trained_on import COMPOSED

VERSION = 1
MIN_EACH = 200
"""Rows of either kind. With fewer, what is held out proves nothing."""
_PASSES = 3
_BATCH = 16
_RATE = 0.1
"""Of the learning rate that code is learned with."""


def tune_by_preference(
    job: Job,
    shown: Sequence[Shown],
    *,
    open_engine: Callable[[], AbstractContextManager[JudgeEngine]],
    progress: Progress,
) -> Outcome:
    """As `train_repository`: nothing is done when nothing has changed, and what was turned down against what people no
    longer have is judged again, without tuning.

    Raises TooLittleCode where too little was taken or dismissed, TrainingInterruptedError on a signal; the next run
    begins anew.
    """
    found = _fair(job, preferences(shown, job.files.digest, job.tokenizer, job.documents, job.tasks))
    _check_number(job, len(shown), found)
    parent = _beneath(job)
    recipe = _recipe(job, read_plain_lora(parent).digest if parent else None)
    rows = sorted([preference.id, preference.example.kind] for preference in found)
    inputs = (job.fingerprint, job.files.digest, recipe.as_json(), prompts_of(job), rows)
    fingerprint = storage.fingerprint("kto", VERSION, BETA, *inputs)
    last = same_as_last(job.adapters, fingerprint, by_preference=True)
    if last is not None and is_settled(last.report, control_of(job, parent)):
        waits_for = offered(job, last.version) if last.report.get("promote") else None
        return Outcome(version=last.version, path=last.path, is_new=False, report=last.report, waits_for=waits_for)
    torch.set_num_threads(job.settings.num_threads or torch.get_num_threads())
    canaries = make_canaries(fingerprint)
    if last is not None:
        made, about = made_before(job, last), last.report["preferences"]
    else:
        made, about = _made(job, found, canaries, recipe, parent, progress)
    memory = Planted(canaries=canaries, counts=planted(made.kept_step * recipe.batch_examples), seed=fingerprint)
    with open_engine() as engine:
        verdict = judge(job, made.path, engine, memory, progress, parent)
    facts = {
        **with_margin(verdict, about["margin"]),
        "training": made.training,
        "preferences": about,
        **report.corpus_facts(job),
    }
    page.write(made.path, job.name, facts)
    return publish(job, fingerprint, made.path, facts, parent, made.run)


def _made(
    job: Job,
    found: Sequence[Preference],
    canaries: Sequence[Canary],
    recipe: Recipe,
    parent: Path | None,
    progress: Progress,
) -> tuple[Made, dict[str, Any]]:
    """The adapter, and what its report says of preferences."""
    learned, held_out = split(found)
    counts = Counter(preference.example.kind for preference in found)
    stream = CanaryStream(Rows(learned, recipe.seed), canaries, job.prompt_builder(), job.name)
    with deferred_signals() as should_stop:
        result, margin = tune(job, stream, learned, held_out, recipe, parent, progress, should_stop)
    newer = len(found) - len(before(found, _cut_time(job)))
    about = {"taken": counts[TAKEN], "dismissed": counts[DISMISSED], "held_out": len(held_out), "after the cut": newer}
    training = report.training_facts(result, recipe, str(_placement(job)), torch.get_num_threads())
    training |= {f"completions {name}": number for name, number in about.items()}
    if parent is not None:
        training["parents"] = [{"name": parent.name, "digest": recipe.on_top_of}]
    below = [parent.parent.name, parent.name] if parent else []
    made = Made(path=result.path, run=_run(job), kept_step=result.kept_step, training=training)
    return made, {**about, "margin": margin.as_json(), "below": below}


def _run(job: Job) -> Path:
    """Apart from the checkpoint of an ordinary training, which may have been interrupted."""
    return job.run / "preferences"


def with_margin(verdict: dict[str, Any], margin: Mapping[str, float | None]) -> dict[str, Any]:
    """The gate's verdict, and a no where it doesn't do what it was made for. `margin`: an estimate as JSON."""
    is_moved = (margin["low"] or 0.0) > 0  # None where it isn't known
    shown = f"{spelled(margin, '+.3f')} nats"
    reason = (
        f"what people took is {'' if is_moved else 'not surely '}likelier, against what they dismissed, than it was:"
        f" {shown} on completions held out"
    )
    return verdict | {"promote": verdict["promote"] and is_moved, "reasons": [*verdict["reasons"], reason]}


class Rows:
    """Every row once, then all of them again in another order."""

    def __init__(self, found: Sequence[Preference], seed: int) -> None:
        self._examples, self._seed = [preference.example for preference in found], seed

    def batch(self, step: int, size: int) -> list[Example]:
        return [self._at(number) for number in range(step * size, (step + 1) * size)]

    def _at(self, number: int) -> Example:
        turn, place = divmod(number, len(self._examples))
        order = random.Random(f"{self._seed}/{turn}").sample(range(len(self._examples)), len(self._examples))
        return self._examples[order[place]]


def tune(
    job: Job,
    stream: CanaryStream,
    learned: Sequence[Preference],
    held_out: Sequence[Preference],
    recipe: Recipe,
    parent: Path | None,
    progress: Progress,
    should_stop: Callable[[], bool],
) -> tuple[TrainResult, Estimate]:
    """The adapter, composed with what it stands on, and how much further apart the two kinds are than they were."""
    plan = Plan(
        files=job.files,
        placement=_placement(job),
        method=recipe.method,
        rank=recipe.rank,
        seed=recipe.seed,
        parent=parent,
    )
    kinds = Counter(preference.example.kind for preference in learned)
    tuner = Tuner(plan, balanced(kinds[TAKEN], kinds[DISMISSED]))
    masters, state, started = tuner.learner.masters, RunState(), time.monotonic()
    optimiser = torch.optim.AdamW(masters.parameters, betas=(0.9, recipe.beta2), weight_decay=recipe.weight_decay)
    num_steps = math.ceil(_PASSES * len(learned) / recipe.batch_examples)
    peak = recipe.learning_rate or _RATE * default_learning_rate(recipe.method, tuner.learner.num_base_parameters)
    progress.start("tuning by preference", total=num_steps, unit="steps")
    while not state.is_done:
        if should_stop():
            raise TrainingInterruptedError
        batch = stream.batch(state.step, recipe.batch_examples)
        fraction = max(state.step / num_steps, state.elapsed_s / (60 * recipe.minutes))
        optimiser.param_groups[0]["lr"] = learning_rate_at(fraction, recipe, peak)
        loss = tuner.accumulate(batch)
        torch.nn.utils.clip_grad_norm_(masters.parameters, recipe.clip)
        optimiser.step()
        masters.publish()
        masters.forget_gradients()
        state.step, state.elapsed_s = state.step + 1, time.monotonic() - started
        state.tokens += sum(len(example.ids) for example in batch)
        state.losses.append((state.tokens, round(state.elapsed_s, 1), round(loss, 4)))
        state.is_done = state.step >= num_steps or state.elapsed_s >= 60 * recipe.minutes
        progress.advance(state.step, f"loss {loss:.3f}")
    progress.finish(f"{state.step} steps, {state.tokens:,} tokens")
    path = _run(job) / "adapter"
    save_adapter(tuner.learner.model, masters.copy(), job.files.name, path)
    if parent is not None:
        compose([parent, path], path := _run(job) / COMPOSED, job.files.name)
    count = sum(tensor.numel() for tensor in masters.parameters)
    return TrainResult(path=path, state=state, learning_rate=peak, num_trainable=count), margin_of(tuner, held_out)


def margin_of(tuner: Tuner, held_out: Sequence[Preference]) -> Estimate:
    """How much likelier what was taken has become, less the same of what was dismissed; files are what varies."""
    paths = {id(preference.example): preference.paths[0] for preference in held_out}
    examples = by_length([preference.example for preference in held_out])
    ratios = tuner.ratios(examples).tolist()
    taken, dismissed = (_share(examples, ratios, kind) for kind in (TAKEN, DISMISSED))
    return change(taken, dismissed, [paths[id(example)] for example in examples])


def _share(examples: Sequence[Example], ratios: Sequence[float], kind: str) -> Share:
    of_kind = [float(example.kind == kind) for example in examples]
    return Share(tops=[ratio * is_it for ratio, is_it in zip(ratios, of_kind, strict=True)], bottoms=of_kind)


def _beneath(job: Job) -> Path | None:
    """What people have; of one that was tuned by preference itself, what that stands on: else each tuning would add to
    the one before, and learn the same rows again. Raises ModelError where that is gone."""
    live = live_adapter(job)
    if live is None or "preferences" not in live.report:
        return live.path if live else None
    below = live.report["preferences"]["below"]
    path = job.data.adapters(below[0]) / below[1] if below else None
    if path is not None and not path.is_dir():
        raise ModelError(
            f"{job.name}: {below[1]}, which {live.version} was tuned on, is gone; run `homespun train` first"
        )
    return path


def _recipe(job: Job, below: str | None) -> Recipe:
    recipe = recipe_of(job, is_gpu=_placement(job).device.type == "cuda")
    return replace(
        recipe,
        method="lora",
        base_format=FULL,
        dropout=0.0,
        max_targets=0.0,
        batch_examples=_BATCH,
        prompt_tokens=0,
        strength=1.0,
        learning_rate=job.settings.learning_rate,
        on_top_of=below,
    )


def _placement(job: Job) -> Placement:
    return choose_placement(job.files, job.settings.device, job.settings.dtype)


def _fair(job: Job, found: Sequence[Preference]) -> Sequence[Preference]:
    """Those that don't give away what it is judged on. Where files are held out, none shows any of them."""
    if job.parts[0].corpus.sources.get("split") == "files":
        return found
    old = before(found, _cut_time(job))
    return old if _are_enough(old) else elsewhere(found, _cut_time(job), job.tasks)


def _cut_time(job: Job) -> float:
    """Of the corpus; one that doesn't say is older than every completion."""
    said = job.parts[0].corpus.report.get("cut_time")
    return float(timegm(time.strptime(said, "%Y-%m-%dT%H:%M:%SZ"))) if said else 0.0


def _are_enough(found: Sequence[Preference]) -> bool:
    counts = Counter(preference.example.kind for preference in found)
    return min(counts[TAKEN], counts[DISMISSED]) >= MIN_EACH


def _check_number(job: Job, num_shown: int, found: Sequence[Preference]) -> None:
    if not _are_enough(found):
        counts = Counter(preference.example.kind for preference in found)
        raise TooLittleCode(
            f"{job.name}: {counts[TAKEN]:,} completions that were taken and {counts[DISMISSED]:,} that were dismissed,"
            f" of {num_shown:,} kept, are too few to tune by (at least {MIN_EACH} of each); keep_completions in its"
            " [[repository]] table has the server keep more"
        )
