"""Judging a candidate: every arm at the held-out places, other code, canaries, the gate's decision, examples."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from homespun_core.fim import line_ends
from homespun_core.prompt import Prompt
from homespun_core.registry import Adapter
from homespun_core.types import Progress
from homespun_trainer import report
from homespun_trainer.canaries import Canary
from homespun_trainer.control import control_of
from homespun_trainer.evaluate import Arm, Bench, LookupBesides, Mixing, Score, Scores, Written, evaluate
from homespun_trainer.gate import MIN_TASKS, Evidence, decide
from homespun_trainer.general import forgetting
from homespun_trainer.job import Job, Part
from homespun_trainer.libraries import libraries_for
from homespun_trainer.memory import Memory, count_leaks, exposures
from homespun_trainer.summaries import Summary, by_language, by_name, differences, summarise

CANDIDATE = "candidate"
BASE, BASE_RETRIEVAL = "base", "base+retrieval"
ADAPTER, ADAPTER_RETRIEVAL = "adapter", "adapter+retrieval"
LIVE_RETRIEVAL = "live+retrieval"
_BARE_EVERY = 2
"""Arms without retrieval only say where a gain comes from, the decision doesn't need them; so they see every second
place, which saves a quarter of the time."""


class JudgeEngine(Protocol):
    """What judging needs of an engine; the command line passes the server's own."""

    def load_adapter(self, version: str, path: Path) -> None: ...

    def generate(
        self, prompt: Prompt, max_new_tokens: int, end_ids: frozenset[int], adapter: str | None
    ) -> Written: ...

    def score(self, ids: Sequence[int], start: int, adapter: str | None) -> Sequence[float]: ...

    def mixing(self, lookup: LookupBesides, end_ids: frozenset[int]) -> Mixing: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Planted:
    """The canaries of a run."""

    canaries: Sequence[Canary]
    counts: Mapping[int, int]
    """Number of a canary -> how often the weights that are judged have seen it."""
    seed: str


def judge(
    job: Job, adapter: Path, engine: JudgeEngine, planted: Planted, progress: Progress, parent: Path | None
) -> dict[str, Any]:
    """Scores of all arms, differences, evidence, decision and examples, as JSON values. `parent`: what the adapter
    stands on."""
    against = control_of(job, parent)
    control = LIVE_RETRIEVAL if against.adapter else BASE_RETRIEVAL
    arms, tasks = _arms(engine, adapter, against.adapter), job.tasks
    scores = dict(scores_of(job, arms, engine, progress))
    scores[control] = [score if fair else None for score, fair in zip(scores[control], against.is_fair, strict=True)]
    bench = replace(bench_of(job, job.parts[0], engine), repo=job.name)  # for what is no repository's
    libraries = libraries_for(_languages(job))
    pairs = [(ADAPTER_RETRIEVAL, control), (ADAPTER_RETRIEVAL, BASE_RETRIEVAL), (ADAPTER, BASE), (BASE_RETRIEVAL, BASE)]
    changes = differences(tasks, scores, pairs)
    evidence = Evidence(
        change=changes.get((ADAPTER_RETRIEVAL, control)),
        languages=by_language(tasks, scores[ADAPTER_RETRIEVAL], scores[control], MIN_TASKS),
        repositories=_by_repository(job, scores[ADAPTER_RETRIEVAL], scores[control]),
        control_ms=_milliseconds(job, scores[control]),
        forgetting=forgetting(bench, CANDIDATE, libraries.found, progress),
        untested=libraries.missing,
        memory=_memory(job, bench, planted, scores, progress),
    )
    return {
        **report.decision_facts(decide(evidence, against.in_words), control, against),
        "deciding": f"{ADAPTER_RETRIEVAL} - {control}",
        **report.score_facts(tasks, arms, scores, changes),
        **report.evidence_facts(evidence),
        "bits_per_byte": _bits_by_repository(job, scores[ADAPTER_RETRIEVAL]),
        "example": report.choose_example(tasks, scores[BASE_RETRIEVAL], scores[ADAPTER_RETRIEVAL]),
        "examples": report.choose_examples(
            tasks, scores[control], scores[ADAPTER_RETRIEVAL], (control, ADAPTER_RETRIEVAL)
        ),
    }


def scores_of(job: Job, arms: Sequence[Arm], engine: JudgeEngine, progress: Progress) -> Scores:
    """At the places of all parts, each with its own name and search."""
    found: dict[str, list[Score | None]] = {arm.name: [] for arm in arms}
    for part in job.parts:
        if part.corpus.tasks:
            made = evaluate(part.corpus.tasks, arms, bench_of(job, part, engine), progress)
            for name, scores in made.items():
                found[name] += scores
    return found


def _milliseconds(job: Job, scores: Sequence[Score | None]) -> float | None:
    found = summarise(job.tasks, scores).milliseconds if any(scores) else None
    return found.value if found else None


def _languages(job: Job) -> Counter[str]:
    sizes: Counter[str] = Counter()
    for document in job.documents:
        sizes[document.language] += len(document.text)
    return sizes


def _by_repository(job: Job, a: Sequence[Score | None], b: Sequence[Score | None]) -> dict[str, Summary]:
    """Of a shared adapter: what it does to each of those that share it, by id."""
    if len(job.parts) == 1:
        return {}
    owners = [part.id for part in job.parts for _ in part.corpus.tasks]
    return by_name(owners, job.tasks, a, b, MIN_TASKS)


def _bits_by_repository(job: Job, scores: Sequence[Score | None]) -> dict[str, float]:
    """Of a shared adapter: what fresh code of each is held against later, by id."""
    found: dict[str, list[Score]] = {}
    owners = [part.id for part in job.parts for _ in part.corpus.tasks] if job.is_shared else []
    for owner, score in zip(owners, scores, strict=False):
        if score is not None:
            found.setdefault(owner, []).append(score)
    return {id: round(sum(s.bits for s in own) / sum(s.num_bytes for s in own), 5) for id, own in found.items()}


def _memory(job: Job, bench: Bench, planted: Planted, scores: Scores, progress: Progress) -> Memory:
    documents = [d.text for d in job.documents]
    return Memory(
        canaries=exposures(planted.canaries, planted.counts, bench, CANDIDATE, seed=planted.seed, progress=progress),
        leaks=count_leaks(job.tasks, scores[ADAPTER_RETRIEVAL], documents, job.find_secrets),
    )


def _arms(engine: JudgeEngine, path: Path, live: Adapter | None) -> list[Arm]:
    """The four, and what people have if that is an adapter: then that is what has to be beaten. With snippets as people
    get them: what stands in the repository has its voice."""
    engine.load_adapter(CANDIDATE, path)
    arms = [
        Arm(name=BASE, adapter=None, snippets="none", every=_BARE_EVERY),
        Arm(name=BASE_RETRIEVAL, adapter=None, snippets="found", mixes=True),
        Arm(name=ADAPTER, adapter=CANDIDATE, snippets="none", every=_BARE_EVERY),
        Arm(name=ADAPTER_RETRIEVAL, adapter=CANDIDATE, snippets="found", mixes=True),
    ]
    if live is not None:
        engine.load_adapter(live.version, live.path)
        arms.append(Arm(name=LIVE_RETRIEVAL, adapter=live.version, snippets="found", mixes=True))
    return arms


def bench_of(job: Job, part: Part, engine: JudgeEngine) -> Bench:
    builder, lookup = job.prompt_builder(), part.corpus.lookup
    size = job.files.config.get("vocab_size")
    end_ids = line_ends(builder.format, job.tokenizer, size if isinstance(size, int) else 0)
    return Bench(
        builder=builder,
        repo=part.name,
        retrieve=part.corpus.retrieve_at or (lambda _: part.corpus.retrieve),
        generate=engine.generate,
        score=engine.score,
        end_ids=end_ids,
        mixing=engine.mixing(lookup, end_ids) if lookup is not None else None,
    )
