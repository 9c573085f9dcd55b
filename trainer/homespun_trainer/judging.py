"""Judging a candidate: every arm at the held-out places, the gate's decision, and one example for people."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from homespun_core import registry
from homespun_core.errors import StorageError
from homespun_core.prompt import Prompt
from homespun_core.registry import Adapter
from homespun_core.types import Progress
from homespun_trainer import report
from homespun_trainer.evaluate import Arm, Bench, Scores, Written, evaluate, newline_ids
from homespun_trainer.gate import decide
from homespun_trainer.job import Job, prompt_builder

logger = logging.getLogger(__name__)

CANDIDATE = "candidate"
BASE, BASE_RETRIEVAL = "base", "base+retrieval"
ADAPTER, ADAPTER_RETRIEVAL = "adapter", "adapter+retrieval"
LIVE_RETRIEVAL = "live+retrieval"


class JudgeEngine(Protocol):
    """What judging needs of an engine; the command line passes the server's own."""

    def load_adapter(self, version: str, path: Path) -> None: ...

    def generate(
        self, prompt: Prompt, max_new_tokens: int, end_ids: frozenset[int], adapter: str | None
    ) -> Written: ...

    def score(self, ids: Sequence[int], start: int, adapter: str | None) -> Sequence[float]: ...


def judge(job: Job, adapter: Path, engine: JudgeEngine, progress: Progress) -> dict[str, Any]:
    """Scores of all arms, differences, decision and example, as JSON values."""
    arms = _arms(job, engine, adapter)
    tasks = job.corpus.tasks
    scores: Scores = evaluate(tasks, arms, bench_of(job, engine), progress) if tasks else {a.name: [] for a in arms}
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


def bench_of(job: Job, engine: JudgeEngine) -> Bench:
    builder = prompt_builder(job)
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
