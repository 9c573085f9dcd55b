"""How likely the live adapter finds code that was written after it was trained: fresh code drifts away from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from homespun_core.registry import Adapter
from homespun_core.retraining import FreshScore
from homespun_core.types import EvalTask
from homespun_trainer.evaluate import Bench, bench_at, bits_of, build_prompt, found_for
from homespun_trainer.intervals import Share, ratio

MIN_PLACES = 12
"""Fewer say nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FreshPlace:
    """A line that was written after the adapter was trained, and what it costs."""

    repository: str
    """Id."""
    commit: str
    bits: float
    bytes: int


def num_places(wanted: int, shared_by: int) -> int:
    """Of one repository, of so many that share an adapter: their parts of what is wanted, and as many as say something
    where it is the only one that changes."""
    return min(wanted, max(MIN_PLACES, -(-wanted // shared_by)))


def places_of(repository: str, tasks: Sequence[EvalTask], bench: Bench, adapter: Adapter) -> list[FreshPlace]:
    """As the gate counts. Snippets come from an index that is as old as what it was judged with."""
    return [_place(repository, task, bench, adapter) for task in tasks]


def fresh_score(places: Sequence[FreshPlace], *, adapter: Adapter, head: str, percent: float, now: float) -> FreshScore:
    bits, sizes = [place.bits for place in places], [place.bytes for place in places]
    estimate = ratio(Share(tops=bits, bottoms=sizes), [(place.repository, place.commit) for place in places])
    baseline = baseline_of(adapter, places)
    return FreshScore(
        at=now,
        adapter=adapter.version,
        head=head,
        places=len(places),
        bytes=sum(sizes),
        bits=sum(bits),
        low=estimate.low if estimate.is_known else None,
        baseline=baseline,
        is_alarm=baseline is not None and is_alarm(estimate.value, estimate.low, baseline, percent),
    )


def is_alarm(value: float, low: float, baseline: float, percent: float) -> bool:
    """So many percent more than the baseline, and surely more than it: some dozens of places vary by 10 % by chance."""
    return value > baseline * (1 + percent / 100) and low > baseline


def baseline_of(adapter: Adapter, places: Sequence[FreshPlace]) -> float | None:
    """Bits per byte with snippets when it was judged, of a shared one in the repositories that these are of, each as
    far as they are; None for one that had no places to be judged on."""
    # Imported here: it brings torch, which whoever only looks has no use for.
    from homespun_trainer.judging import ADAPTER_RETRIEVAL

    found: object = adapter.report
    for key in ("arms", ADAPTER_RETRIEVAL, "all", "bits_per_byte", "value"):
        found = found.get(key) if hasattr(found, "get") else None
    if not isinstance(found, int | float) or found <= 0:
        return None
    each = adapter.report.get("bits_per_byte") or {}
    if not each:
        return float(found)
    expected = sum(place.bytes * each.get(place.repository, found) for place in places)
    return float(expected / sum(place.bytes for place in places))


def _place(repository: str, task: EvalTask, bench: Bench, adapter: Adapter) -> FreshPlace:
    prompt = build_prompt(task, bench, found_for(task, bench.retrieve(task)))
    bits, _, size = bits_of(prompt, task.middle, adapter.version, bench_at(task, prompt.opening, bench))
    return FreshPlace(repository=repository, commit=task.commit, bits=bits, bytes=size)
