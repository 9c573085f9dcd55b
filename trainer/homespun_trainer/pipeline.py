"""`train_repository`: corpus -> examples -> LoRA -> evaluation -> gate -> registry."""

from __future__ import annotations

import hashlib
import logging
import shutil
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from homespun_core import personal, registry, storage
from homespun_core.errors import ModelError, TooLittleCode
from homespun_core.prompt import PromptBuilder
from homespun_core.registry import Adapter
from homespun_core.scopes import is_scope
from homespun_core.types import Document, Progress
from homespun_trainer import page, report, sizing, sweep
from homespun_trainer.canaries import Canary, CanaryStream, make_canaries, planted
from homespun_trainer.control import control_of, is_settled
from homespun_trainer.examples import Batches, Example, ExampleStream, Mix
from homespun_trainer.interrupt import deferred_signals
from homespun_trainer.job import Job, Part
from homespun_trainer.judging import JudgeEngine, Planted, judge
from homespun_trainer.methods import default_learning_rate
from homespun_trainer.mixture import Mixture
from homespun_trainer.placement import Placement, choose_placement
from homespun_trainer.publishing import Outcome, offered, publish, same_as_last
from homespun_trainer.quantising import FULL, check_possible
from homespun_trainer.randomness import LearnableStream
from homespun_trainer.stacking import PEFT_FILES, STACKABLE, read_plain_lora
from homespun_trainer.sweep import Trial
from homespun_trainer.train import Recipe, TrainingInterruptedError, TrainResult, train_adapter

logger = logging.getLogger(__name__)

RECIPE_VERSION = 13
"""Goes up when the code makes another adapter from the same inputs."""
MIN_CHARACTERS = 20_000
"""About 6,000 tokens. Less is learned by heart within seconds, and retrieval can show all of it anyway."""

_HELD_OUT_SHARE = 0.03
_MIN_DOCUMENTS_TO_HOLD_OUT = 40


def train_repository(
    job: Job, *, open_engine: Callable[[], AbstractContextManager[JudgeEngine]], progress: Progress
) -> Outcome:
    """Train, judge, publish, and promote if the gate says so; nothing is done when nothing has changed since last time.
    One that was turned down against what people no longer have is judged again, without training.

    Raises TooLittleCode, and TrainingInterruptedError on a signal, after saving a checkpoint.
    """
    _check_size(job)
    parent = parent_of(job)
    below = read_plain_lora(parent).digest if parent else None
    placement = choose_placement(job.files, job.settings.device, job.settings.dtype)
    recipe, mix = replace(recipe_of(job, is_gpu=placement.device.type == "cuda"), on_top_of=below), job.mix
    check_possible(recipe.base_format, recipe.method, parent)
    fingerprint = fingerprint_of(job, recipe, mix)
    last = same_as_last(job.adapters, fingerprint)
    if last is not None and is_settled(last.report, control_of(job, parent)):
        # Again, in case we were killed between publishing and promoting it.
        with personal.standing(job.data, job.wish):  # what is forgotten was there to be found
            waits_for = offered(job, last.version) if last.report.get("promote") else None
        return Outcome(version=last.version, path=last.path, is_new=False, report=last.report, waits_for=waits_for)
    torch.set_num_threads(job.settings.num_threads or torch.get_num_threads())
    canaries = make_canaries(fingerprint)
    if last is not None:
        made = made_before(job, last)
    else:
        stream, held_out = examples_of(job, recipe, mix)
        run = _Run(
            job=job, held_out=held_out, placement=placement, parent=parent, fingerprint=fingerprint, progress=progress
        )
        made = run.made(recipe, stream, canaries)
    memory = Planted(canaries=canaries, counts=planted(made.kept_step * recipe.batch_examples), seed=fingerprint)
    with open_engine() as engine:
        verdict = judge(job, made.path, engine, memory, progress, parent)
    facts = {
        **verdict,
        "training": made.training,
        **report.corpus_facts(job),
    }
    page.write(made.path, job.name, facts)
    return publish(job, fingerprint, made.path, facts, parent, made.run)


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """An adapter that is to be judged."""

    path: Path
    """A directory with it in peft's form."""
    run: Path
    """What that is in, and goes."""
    kept_step: int
    training: dict[str, Any]
    """For the report."""


def made_before(job: Job, last: Adapter) -> Made:
    """Its weights, to publish them under another verdict. Apart from the checkpoint of another training."""
    run, training = job.run / "judged-again", last.report["training"]
    path = run / "adapter"
    shutil.rmtree(run, ignore_errors=True)
    path.mkdir(parents=True)
    for name in PEFT_FILES:
        shutil.copy(last.path / name, path / name)
    kept = training["kept_step"]
    return Made(path=path, run=run, kept_step=training["steps"] if kept is None else kept, training=training)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Run:
    """A training with its trials."""

    job: Job
    held_out: Sequence[Example]
    placement: Placement
    parent: Path | None
    fingerprint: str
    progress: Progress

    def made(self, recipe: Recipe, stream: Mixture, canaries: Sequence[Canary]) -> Made:
        job = self.job
        planting = CanaryStream(stream, canaries, job.prompt_builder(recipe.prompt_tokens), job.name)
        with deferred_signals() as is_asked_to:

            def should_stop() -> bool:
                return is_asked_to() or not job.is_wanted

            recipe, trials = self.tuned(recipe, LearnableStream(stream, job.tokenizer), should_stop)
            result = self.train(recipe, LearnableStream(planting, job.tokenizer), should_stop)
            if should_stop():  # asked in the last step: the checkpoint has everything
                raise TrainingInterruptedError
        training = report.training_facts(result, recipe, str(self.placement), torch.get_num_threads())
        training["trials"] = [asdict(trial) for trial in trials]
        if self.parent is not None:
            training["parents"] = [{"name": self.parent.name, "digest": recipe.on_top_of}]
        return Made(path=result.path, run=job.run, kept_step=result.kept_step, training=training)

    def tuned(self, recipe: Recipe, stream: Batches, should_stop: Callable[[], bool]) -> tuple[Recipe, Sequence[Trial]]:
        """The recipe with the learning rate that did best in trials, and with the time that they leave."""
        settings = self.job.settings
        if not sweep.is_wanted(
            settings.learning_rate_trials, recipe.minutes, settings.learning_rate, len(self.held_out)
        ):
            return recipe, ()
        usual = recipe.learning_rate
        short = replace(recipe, minutes=recipe.minutes * sweep.SHARE)

        def train(rate: float, folder: Path) -> TrainResult:
            how = replace(short, learning_rate=rate)
            return self.train(how, stream, should_stop, folder, f"trying the learning rate {rate:g}")

        rates = [usual * factor for factor in sweep.FACTORS]
        trials = sweep.sweep(self.job.run, self.fingerprint, rates, train)
        left = recipe.minutes * (1 - sweep.SHARE * len(rates))
        return replace(recipe, learning_rate=sweep.best(trials, usual), minutes=left), trials

    def train(
        self,
        recipe: Recipe,
        stream: Batches,
        should_stop: Callable[[], bool],
        folder: Path | None = None,
        title: str = "training the adapter",
    ) -> TrainResult:
        return train_adapter(
            self.job.files,
            stream,
            self.held_out,
            recipe,
            placement=self.placement,
            run=folder or self.job.run,
            fingerprint=storage.fingerprint(self.fingerprint, recipe.learning_rate, recipe.minutes),
            progress=self.progress,
            should_stop=should_stop,
            parent=self.parent,
            num_processes=self.job.settings.processes,
            title=title,
        )


def parent_of(job: Job) -> Path | None:
    """The adapter to train on top of. Raises ModelError when there is none of that name, or it can't be stacked.
    Somebody's own is on top of what everybody has, whatever the settings say of everybody's."""
    if job.beneath is not None or personal.owner_of(job.id) is not None:
        return job.beneath
    name = job.settings.on_top_of
    if not name or name.partition("/")[0] == job.id:  # a setting for all, the one below included
        return None
    if job.settings.method not in STACKABLE:
        raise ModelError(f"on_top_of: method {job.settings.method} can't be stacked; use --method {STACKABLE[0]}")
    version = _named(job, name)
    if version is None:
        if not Path(name).is_dir():
            raise ModelError(
                f"on_top_of: {name} is no version in {job.adapters}, no shared adapter with one live and no folder"
            )
        return Path(name)
    if registry.load_adapter(version).base_digest != job.files.digest:
        raise ModelError(f"on_top_of: {name} was trained on another base model than {job.files.name}")
    return version


def _named(job: Job, name: str) -> Path | None:
    """A version of the job's own adapter, or `@team/VERSION`; of `@team` what is live now."""
    place, _, version = name.partition("/") if is_scope(name) else (job.id, "", name)
    adapters = job.data.adapters(place)
    if not version:
        return storage.current(adapters)
    return adapters / version if Path(version).name == version and (adapters / version).is_dir() else None


def recipe_of(job: Job, *, is_gpu: bool) -> Recipe:
    """As the settings say, else by the size of corpora and model. What is trained on top of what is live becomes one
    adapter with it: a LoRA on the whole model, whatever the settings say of others."""
    settings, base = job.settings, sizing.measure(job.files)
    method = settings.method if job.beneath is None or settings.method in STACKABLE else STACKABLE[0]
    fitting = sizing.sizes(sum(part.size for part in job.parts), base, is_gpu=is_gpu)
    return Recipe(
        method=method,
        base_format=settings.base_format if job.beneath is None else FULL,
        rank=settings.lora_rank or fitting.rank,
        dropout=fitting.dropout,
        max_targets=fitting.max_targets,
        batch_examples=fitting.batch_examples,
        prompt_tokens=fitting.prompt_tokens,
        learning_rate=settings.learning_rate or fitting.learning_rate * default_learning_rate(method, base.parameters),
        strength=fitting.strength if method in STACKABLE else 1.0,  # of others it isn't linear in the weights
        minutes=settings.train_minutes,
        seed=settings.seed,
    )


def fingerprint_of(job: Job, recipe: Recipe, mix: Mix) -> str:
    """Equal for runs that would make the same adapter and judge it on the same places."""
    how = [job.settings.learning_rate_trials, *([job.wish.since] if job.wish else [])]
    """Nothing that was made for a wish that was taken back is used again, such as a checkpoint."""
    parts = (RECIPE_VERSION, job.fingerprint, job.files.digest, recipe.as_json(), asdict(mix), prompts_of(job), *how)
    return storage.fingerprint(*parts)


def prompts_of(job: Job) -> list[object]:
    """All that shapes the prompts that it is judged by, corpus and index aside."""
    settings = job.settings
    return [
        settings.max_prompt_tokens,
        settings.snippet_count,
        settings.retrieval,
        job.name,
        job.files.family,
        settings.max_new_tokens,
        job.prompt_builder().is_healing,
    ]


def examples_of(job: Job, recipe: Recipe, mix: Mix) -> tuple[Mixture, list[Example]]:
    """The stream to train on, and examples of other files that tell when it is enough; none where no such file has a
    line to ask for."""
    builder, seed = job.prompt_builder(recipe.prompt_tokens), job.settings.seed
    learned, looked_at = {}, {}
    for part in learnable(job.parts):
        training, held_out = _split(part.corpus.documents)
        learned[part.id] = _stream(job, part, builder, training, mix, seed)
        if held_out:
            bare = replace(mix, prefix_weight=0.0, suffix_weight=0.0)
            looked_at[part.id] = _stream(job, part, builder, held_out, bare, seed + 1)
    looks: list[Example] = []
    for number in range(sizing.num_held_out(job.settings.train_minutes) if looked_at else 0):
        with suppress(TooLittleCode):
            looks.append(Mixture(looked_at, seed + 1).example(number))
    if not looks:
        logger.warning(
            "no file is held out from training (there are fewer than %d, or none of their 3 %% has a line to ask for):"
            " it doesn't end early, and no learning rates are tried",
            _MIN_DOCUMENTS_TO_HOLD_OUT,
        )
    return Mixture(learned, seed), looks


def learnable(parts: Sequence[Part]) -> list[Part]:
    """Those large enough to learn from. A smaller one is judged like the others, and has the shared adapter as well."""
    return [part for part in parts if part.size >= MIN_CHARACTERS]


def _split(documents: Sequence[Document]) -> tuple[Sequence[Document], Sequence[Document]]:
    """For training, and held out from it; none where there are few."""
    held_out = [d for d in documents if _is_held_out(d)]
    if len(documents) < _MIN_DOCUMENTS_TO_HOLD_OUT or not held_out:
        return documents, []
    return [d for d in documents if not _is_held_out(d)], held_out


def _stream(
    job: Job, part: Part, builder: PromptBuilder, documents: Sequence[Document], mix: Mix, seed: int
) -> ExampleStream:
    retrieve = part.corpus.learnable_snippets if job.settings.retrieval else None
    return ExampleStream(documents, builder=builder, repo=part.name, seed=seed, retrieve=retrieve, mix=mix)


def _is_held_out(document: Document) -> bool:
    return int(hashlib.sha256(document.blob.encode()).hexdigest()[:8], 16) < _HELD_OUT_SHARE * 2**32


def _check_size(job: Job) -> None:
    if not learnable(job.parts):
        size = max(part.size for part in job.parts)
        raise TooLittleCode(
            f"{job.name}: {size:,} characters of source code are too little to train on"
            f" (at least {MIN_CHARACTERS:,}); completions use the base model and snippets of this repository"
        )
