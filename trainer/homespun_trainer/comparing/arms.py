"""Every layer alone and together, and controls that show whether a gain is due to what it seems to be due to."""

from __future__ import annotations

from typing import Any

from homespun_core.types import Progress
from homespun_trainer import report
from homespun_trainer.evaluate import Arm, Known, evaluate
from homespun_trainer.gate import MIN_TASKS
from homespun_trainer.job import Job
from homespun_trainer.judging import ADAPTER, ADAPTER_RETRIEVAL, BASE, BASE_RETRIEVAL, JudgeEngine, bench_of
from homespun_trainer.summaries import by_language, differences

BASE_DATASTORE, BASE_RANDOM = "base+datastore", "base+random snippets"
BASE_BOTH = "base+retrieval+datastore"
OTHER_RETRIEVAL, ALL = "other adapter+retrieval", "all together"

_PAIRS = (
    (ALL, BASE),
    (ALL, BASE_RETRIEVAL),
    (ALL, BASE_BOTH),
    (BASE_BOTH, BASE_RETRIEVAL),
    (ADAPTER_RETRIEVAL, BASE_RETRIEVAL),
    (OTHER_RETRIEVAL, BASE_RETRIEVAL),
    (ADAPTER_RETRIEVAL, OTHER_RETRIEVAL),
    (ADAPTER, BASE),
    (BASE_RETRIEVAL, BASE),
    (BASE_RETRIEVAL, BASE_RANDOM),
    (BASE_RANDOM, BASE),
    (BASE_DATASTORE, BASE),
)


def arms_of(adapter: str | None, other: str | None) -> list[Arm]:
    """Those that can be asked: without an adapter there is nothing to put on top of the base model."""
    arms = [
        Arm(name=BASE, adapter=None, snippets="none"),
        Arm(name=BASE_DATASTORE, adapter=None, snippets="none", mixes=True),
        Arm(name=BASE_RANDOM, adapter=None, snippets="random"),
        Arm(name=BASE_RETRIEVAL, adapter=None, snippets="found"),
    ]
    if other is not None:
        arms.append(Arm(name=OTHER_RETRIEVAL, adapter=other, snippets="found"))
    if adapter is not None:
        arms += [
            Arm(name=BASE_BOTH, adapter=None, snippets="found", mixes=True),
            Arm(name=ADAPTER, adapter=adapter, snippets="none"),
            Arm(name=ADAPTER_RETRIEVAL, adapter=adapter, snippets="found"),
        ]
    return [*arms, Arm(name=ALL, adapter=adapter, snippets="found", mixes=True)]


def compare(
    job: Job,
    engine: JudgeEngine,
    *,
    adapter: str | None,
    other: str | None,
    known: Known,
    progress: Progress,
) -> dict[str, Any]:
    """Scores of all arms and their differences, as JSON values. The adapters are loaded already."""
    (part,) = job.parts
    arms, tasks = arms_of(adapter, other), job.tasks
    scores = evaluate(tasks, arms, bench_of(job, part, engine), progress, known)
    after, before = (BASE_RETRIEVAL, BASE) if adapter is None else (ADAPTER_RETRIEVAL, BASE_RETRIEVAL)
    languages = by_language(tasks, scores[after], scores[before], MIN_TASKS)
    return {
        "deciding": f"{after} - {before}",
        **report.score_facts(tasks, arms, scores, differences(tasks, scores, _PAIRS)),
        "languages": {name: summary.as_json() for name, summary in languages.items()},
        "examples": report.choose_examples(tasks, scores[before], scores[after], (before, after)),
        "corpus": dict(part.corpus.sources),
    }
