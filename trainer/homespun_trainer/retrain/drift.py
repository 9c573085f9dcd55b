"""How likely the live adapter finds code that was written after it was trained: fresh code drifts away from it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from homespun_core.prompt import PromptBuilder
from homespun_core.registry import Adapter
from homespun_core.retraining import FreshScore
from homespun_core.types import EvalTask, SearchQuery, Snippet
from homespun_trainer.intervals import Share, ratio
from homespun_trainer.judging import ADAPTER_RETRIEVAL

MIN_PLACES = 12
"""Fewer say nothing."""

ScoreIds = Callable[[Sequence[int], int], Sequence[float]]
"""(ids, start) -> natural log-probability of each of ids[start:] under the live adapter."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fresh:
    """What the live adapter is shown. Snippets come from an index that is as old as what it was judged with."""

    tasks: Sequence[EvalTask]
    repo: str
    builder: PromptBuilder
    retrieve: Callable[[SearchQuery], Sequence[Snippet]]


def measure(fresh: Fresh, score: ScoreIds, *, adapter: Adapter, head: str, percent: float, now: float) -> FreshScore:
    bits, sizes = zip(*(_bits(task, fresh, score) for task in fresh.tasks), strict=True)
    estimate = ratio(Share(tops=bits, bottoms=sizes), [task.commit for task in fresh.tasks])
    baseline = baseline_of(adapter)
    return FreshScore(
        at=now,
        adapter=adapter.version,
        head=head,
        places=len(fresh.tasks),
        bytes=sum(sizes),
        bits=sum(bits),
        low=estimate.low,
        baseline=baseline,
        is_alarm=baseline is not None and is_alarm(estimate.value, estimate.low, baseline, percent),
    )


def is_alarm(value: float, low: float, baseline: float, percent: float) -> bool:
    """So many percent more than the baseline, and surely more than it: some dozens of places vary by 10 % by chance."""
    return value > baseline * (1 + percent / 100) and low > baseline


def baseline_of(adapter: Adapter) -> float | None:
    """Bits per byte with snippets when it was judged; None for one that had no places to be judged on."""
    found: object = adapter.report
    for key in ("arms", ADAPTER_RETRIEVAL, "all", "bits_per_byte", "value"):
        found = found.get(key) if hasattr(found, "get") else None
    return float(found) if isinstance(found, int | float) and found > 0 else None


def _bits(task: EvalTask, fresh: Fresh, score: ScoreIds) -> tuple[float, int]:
    """As the gate counts: the middle, the word before it that the completion spells again, and the end."""
    query = SearchQuery(prefix=task.prefix, suffix=task.suffix, path=task.path, language=task.language)
    prompt = fresh.builder.build(
        prefix=task.prefix,
        suffix=task.suffix,
        path=task.path,
        language=task.language,
        repo=fresh.repo,
        snippets=fresh.retrieve(query),
    )
    whole = prompt.opening + task.middle
    gold = [*fresh.builder.tokenizer.encode(whole), fresh.builder.format.end_id]
    logprobs = score([*prompt.ids, *gold], len(prompt.ids))
    return -sum(logprobs) / math.log(2), len(whole.encode())
