"""How likely the live adapter finds code that was written after it was trained: fresh code drifts away from it."""

from __future__ import annotations

from collections.abc import Sequence

from homespun_core.registry import Adapter
from homespun_core.retraining import FreshScore
from homespun_core.types import EvalTask
from homespun_trainer.evaluate import Bench, bits_of, build_prompt, found_for
from homespun_trainer.intervals import Share, ratio
from homespun_trainer.judging import ADAPTER_RETRIEVAL

MIN_PLACES = 12
"""Fewer say nothing."""


def measure(
    tasks: Sequence[EvalTask], bench: Bench, *, adapter: Adapter, head: str, percent: float, now: float
) -> FreshScore:
    """As the gate counts. Snippets come from an index that is as old as what it was judged with."""
    bits, sizes = zip(*(_bits(task, adapter.version, bench) for task in tasks), strict=True)
    estimate = ratio(Share(tops=bits, bottoms=sizes), [task.commit for task in tasks])
    baseline = baseline_of(adapter)
    return FreshScore(
        at=now,
        adapter=adapter.version,
        head=head,
        places=len(tasks),
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


def _bits(task: EvalTask, version: str, bench: Bench) -> tuple[float, int]:
    bits, _, size = bits_of(build_prompt(task, bench, found_for(task, bench)), task.middle, version, bench)
    return bits, size
