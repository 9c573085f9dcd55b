"""`train_repository`: corpus -> examples -> LoRA -> evaluation -> gate -> registry."""

from __future__ import annotations

import hashlib
import logging
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import torch

from homespun_core import registry, storage
from homespun_core.config import Settings
from homespun_core.errors import RepositoryError, StorageError
from homespun_core.fim import resolve_family
from homespun_core.paths import DataDir
from homespun_core.prompt import Prompt, PromptBuilder, PromptLimits
from homespun_core.registry import Adapter
from homespun_core.types import Document, EvalTask, ModelFiles, Progress, Tokenizer
from homespun_trainer import checkpoint, report
from homespun_trainer.evaluate import Arm, Bench, Scores, Written, evaluate, newline_ids
from homespun_trainer.examples import Example, ExampleStream, Mix, Retrieve
from homespun_trainer.gate import decide
from homespun_trainer.interrupt import deferred_signals
from homespun_trainer.lora import choose_placement
from homespun_trainer.train import Recipe, TrainingInterruptedError, TrainResult, train_adapter

logger = logging.getLogger(__name__)

RECIPE_VERSION = 3
"""Goes up when the code makes another adapter from the same inputs."""
MIN_CHARACTERS = 20_000
"""About 6,000 tokens. Less is learned by heart within seconds, and retrieval can show all of it anyway."""

CANDIDATE = "candidate"
BASE, BASE_RETRIEVAL = "base", "base+retrieval"
ADAPTER, ADAPTER_RETRIEVAL = "adapter", "adapter+retrieval"
LIVE_RETRIEVAL = "live+retrieval"

_HELD_OUT_SHARE = 0.03
_HELD_OUT_EXAMPLES = 24
_MIN_DOCUMENTS_TO_HOLD_OUT = 40
_KEEP_TURNED_DOWN = 5


class TooLittleCode(RepositoryError):
    """There is no point in training on so little."""


class JudgeEngine(Protocol):
    """What judging needs of an engine; the command line passes the server's own."""

    def load_adapter(self, version: str, path: Path) -> None: ...

    def generate(
        self, prompt: Prompt, max_new_tokens: int, end_ids: frozenset[int], adapter: str | None
    ) -> Written: ...

    def score(self, ids: Sequence[int], start: int, adapter: str | None) -> Sequence[float]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Corpus:
    """A corpus snapshot, and the search in the index as of its cut."""

    fingerprint: str
    sources: Mapping[str, str]
    documents: Sequence[Document]
    tasks: Sequence[EvalTask]
    retrieve: Retrieve


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One repository to train an adapter for."""

    repo_id: str
    repo_name: str
    corpus: Corpus
    files: ModelFiles
    tokenizer: Tokenizer
    settings: Settings
    data: DataDir

    @property
    def adapters(self) -> Path:
        return self.data.adapters(self.repo_id)

    @property
    def run(self) -> Path:
        return self.data.training_run(self.repo_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    version: str
    is_new: bool
    """False when this very adapter was there already."""
    report: Mapping[str, Any]


def train_repository(
    job: Job, *, open_engine: Callable[[], AbstractContextManager[JudgeEngine]], progress: Progress
) -> Outcome:
    """Train, judge, publish, and promote if the gate says so; nothing is done when nothing has changed since last time.

    Raises TooLittleCode, and TrainingInterruptedError on a signal, after saving a checkpoint.
    """
    _check_size(job)
    recipe, mix = recipe_of(job.settings), Mix()
    fingerprint = fingerprint_of(job, recipe, mix)
    last = _same_as_last(job.adapters, fingerprint)
    if last is not None:
        if last.report.get("promote"):  # again, in case we were killed between publishing and promoting it
            registry.promote(job.adapters, last.version)
        return Outcome(version=last.version, is_new=False, report=last.report)
    torch.set_num_threads(job.settings.num_threads or torch.get_num_threads())
    placement = choose_placement(job.files, job.settings.device, job.settings.dtype)
    stream, held_out = examples_of(job, recipe, mix)
    with deferred_signals() as should_stop:
        result = train_adapter(
            job.files,
            stream,
            held_out,
            recipe,
            placement=placement,
            run=job.run,
            fingerprint=fingerprint,
            progress=progress,
            should_stop=should_stop,
        )
        if should_stop():  # asked in the last step: the checkpoint has everything
            raise TrainingInterruptedError
    facts = report.training_facts(result, recipe, str(placement), torch.get_num_threads())
    with open_engine() as engine:
        verdict = judge(job, result, engine, progress)
    return _publish(job, fingerprint, result, {**verdict, "training": facts, "corpus": dict(job.corpus.sources)})


def recipe_of(settings: Settings) -> Recipe:
    return Recipe(
        rank=settings.lora_rank,
        learning_rate=settings.learning_rate,
        minutes=settings.train_minutes,
        seed=settings.seed,
    )


def fingerprint_of(job: Job, recipe: Recipe, mix: Mix) -> str:
    """Equal for runs that would make the same adapter and judge it on the same places."""
    settings = job.settings
    prompt = [
        settings.max_prompt_tokens,
        settings.snippet_count,
        settings.retrieval,
        job.repo_name,
        job.files.family,
        settings.max_new_tokens,
    ]
    return storage.fingerprint(
        RECIPE_VERSION, job.corpus.fingerprint, job.files.digest, recipe.as_json(), asdict(mix), prompt
    )


def examples_of(job: Job, recipe: Recipe, mix: Mix) -> tuple[ExampleStream, list[Example]]:
    """The stream to train on, and examples of other files that tell when it is enough."""
    builder = _builder(job, recipe.prompt_tokens)
    held_out = [d for d in job.corpus.documents if _is_held_out(d)]
    if len(job.corpus.documents) < _MIN_DOCUMENTS_TO_HOLD_OUT or not held_out:
        return _stream(job, builder, job.corpus.documents, mix, job.settings.seed), []
    training = [d for d in job.corpus.documents if not _is_held_out(d)]
    looks = _stream(job, builder, held_out, replace(mix, prefix_weight=0.0, suffix_weight=0.0), job.settings.seed + 1)
    return _stream(job, builder, training, mix, job.settings.seed), looks.batch(0, _HELD_OUT_EXAMPLES)


def judge(job: Job, result: TrainResult, engine: JudgeEngine, progress: Progress) -> dict[str, Any]:
    """Scores of all arms, differences, decision and example, as JSON values."""
    arms = _arms(job, engine, result.path)
    tasks = job.corpus.tasks
    scores: Scores = evaluate(tasks, arms, _bench(job, engine), progress) if tasks else {a.name: [] for a in arms}
    control = LIVE_RETRIEVAL if LIVE_RETRIEVAL in scores else BASE_RETRIEVAL
    pairs = [(ADAPTER_RETRIEVAL, control), (ADAPTER_RETRIEVAL, BASE_RETRIEVAL), (ADAPTER, BASE), (BASE_RETRIEVAL, BASE)]
    changes = report.differences(tasks, scores, list(dict.fromkeys(pairs)))
    decision = decide(changes.get((ADAPTER_RETRIEVAL, control)), _CONTROL_NAMES[control])
    return {
        **report.decision_facts(decision, control),
        "arms": report.arm_scores(tasks, arms, scores) if tasks else {},
        "differences": {f"{a} - {b}": change.as_json() for (a, b), change in changes.items()},
        "example": report.choose_example(tasks, scores[BASE_RETRIEVAL], scores[ADAPTER_RETRIEVAL]),
    }


_CONTROL_NAMES = {
    BASE_RETRIEVAL: "the base model with the same snippets",
    LIVE_RETRIEVAL: "the adapter that is live, with the same snippets",
}


def _arms(job: Job, engine: JudgeEngine, path: Path) -> list[Arm]:
    """The four, and the live adapter if there is one for this base model: then that is what has to be beaten."""
    engine.load_adapter(CANDIDATE, path)
    arms = [
        Arm(name=BASE, adapter=None, retrieval=False),
        Arm(name=BASE_RETRIEVAL, adapter=None, retrieval=True),
        Arm(name=ADAPTER, adapter=CANDIDATE, retrieval=False),
        Arm(name=ADAPTER_RETRIEVAL, adapter=CANDIDATE, retrieval=True),
    ]
    live = _live(job)
    if live is not None:
        engine.load_adapter(live.version, live.path)
        arms.append(Arm(name=LIVE_RETRIEVAL, adapter=live.version, retrieval=True))
    return arms


def _live(job: Job) -> Adapter | None:
    try:
        live = registry.live(job.adapters)
    except StorageError as error:
        logger.warning("the live adapter can't be compared with: %s", error)
        return None
    return live if live is not None and live.base_digest == job.files.digest else None


def _bench(job: Job, engine: JudgeEngine) -> Bench:
    builder = _builder(job)
    size = job.files.config.get("vocab_size")
    new_lines = newline_ids(job.tokenizer, size if isinstance(size, int) else 0)
    return Bench(
        builder=builder,
        repo=job.repo_name,
        retrieve=job.corpus.retrieve,
        generate=engine.generate,
        score=engine.score,
        end_ids=frozenset(builder.format.end_ids) | new_lines,
    )


def _builder(job: Job, max_tokens: int | None = None) -> PromptBuilder:
    """With the server's limits: settings, and what the model's context leaves beside a completion; or shorter."""
    fim = resolve_family(job.tokenizer, job.files.config, name=job.files.name, forced=job.files.family)
    context, limit = job.files.config.get("max_position_embeddings"), job.settings.max_prompt_tokens
    if isinstance(context, int):
        limit = min(limit, context - job.settings.max_new_tokens)
    return PromptBuilder(
        tokenizer=job.tokenizer,
        format=fim,
        limits=PromptLimits(max_tokens=min(limit, max_tokens or limit)),
        is_healing=True,
    )


def _stream(job: Job, builder: PromptBuilder, documents: Sequence[Document], mix: Mix, seed: int) -> ExampleStream:
    retrieve = job.corpus.retrieve if job.settings.retrieval else None
    return ExampleStream(documents, builder=builder, repo=job.repo_name, seed=seed, retrieve=retrieve, mix=mix)


def _is_held_out(document: Document) -> bool:
    return int(hashlib.sha256(document.blob.encode()).hexdigest()[:8], 16) < _HELD_OUT_SHARE * 2**32


def _check_size(job: Job) -> None:
    size = sum(len(d.text) for d in job.corpus.documents)
    if size < MIN_CHARACTERS:
        raise TooLittleCode(
            f"{job.repo_name}: {size:,} characters of source code are too little to train on"
            f" (at least {MIN_CHARACTERS:,}); completions use the base model and snippets of this repository"
        )


def _same_as_last(adapters: Path, fingerprint: str) -> Adapter | None:
    try:
        last = registry.newest(adapters)
        if last is None:
            return None
        manifest = storage.read_manifest(last.path, registry.ADAPTER_KIND, registry.ADAPTER_FORMAT)
    except StorageError as error:
        logger.warning("the last adapter is of no use: %s", error)
        return None
    return last if manifest.fingerprint == fingerprint else None


def _publish(job: Job, fingerprint: str, result: TrainResult, facts: Mapping[str, Any]) -> Outcome:
    sources = {"base_model": job.files.digest, "corpus": job.corpus.fingerprint, "repository": job.repo_name}
    version = registry.new_version(fingerprint)
    path = job.adapters / version
    with registry.publish_adapter(path, fingerprint=fingerprint, sources=sources, report=facts) as folder:
        for file in sorted(result.path.iterdir()):
            shutil.copy(file, folder / file.name)
    if facts["promote"]:
        registry.promote(job.adapters, version)
    storage.prune(job.adapters, _KEEP_TURNED_DOWN)
    checkpoint.discard(job.run)
    return Outcome(version=version, is_new=True, report=facts)
