"""Whether an adapter goes live. Pure: scores in, a decision with its reasons out.

Bits per byte carry the decision: they use every token of every place and need several times fewer places than exact
match for the same certainty. Exact match and edit similarity, what people see, must not be worse.
"""

from __future__ import annotations

from dataclasses import dataclass

from homespun_trainer.evaluate import Summary
from homespun_trainer.intervals import Estimate

MIN_TASKS, MIN_COMMITS = 50, 10
"""With fewer, an interval says more about the few commits than about the adapter."""
_MIN_GAIN = 0.01
"""Bits per byte. After two steps of training an adapter was already surely better, by 0.004: nobody would notice."""
_EXACT_MARGIN = 0.01
_INTERVAL_IN_ERRORS = 3.92
"""Width of a 95 % interval in standard errors."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    promote: bool
    reasons: tuple[str, ...]
    """In plain words, with the numbers: why, or all that speaks against it."""


def decide(change: Summary | None, control: str) -> Decision:
    """`change` is candidate minus `control`, both with retrieval; None when there was nothing to judge it on."""
    if change is None:
        return Decision(promote=False, reasons=("there is no held-out place to judge it on",))
    few = _too_few(change)
    if few:
        return Decision(promote=False, reasons=(few,))
    against = [reason for reason in (_bits(change), _exact(change), _similarity(change)) if reason]
    return Decision(promote=not against, reasons=tuple(against) or (_better(change, control),))


def _too_few(change: Summary) -> str | None:
    if change.num_tasks >= MIN_TASKS and change.num_commits >= MIN_COMMITS:
        return None
    return (
        f"too little to judge it on: {change.num_tasks} held-out places of {change.num_commits} commits,"
        f" at least {MIN_TASKS} of {MIN_COMMITS} are needed"
    )


def _bits(change: Summary) -> str | None:
    estimate = change.bits_per_byte
    if estimate.high >= 0:
        return f"it doesn't surely predict the code better: {_bits_text(estimate)}"
    if estimate.value > -_MIN_GAIN:
        return f"it is hardly better: {_bits_text(estimate)}, and {_MIN_GAIN} would be worth a change"
    return None


def _exact(change: Summary) -> str | None:
    """Worse by more than a point, and by more than the standard error: one line of sixty is no evidence."""
    value, margin = change.exact.value, max(_EXACT_MARGIN, (change.exact.high - change.exact.low) / _INTERVAL_IN_ERRORS)
    return None if value >= -margin else f"it gets fewer lines right: {100 * value:+.1f} points of exact match"


def _similarity(change: Summary) -> str | None:
    estimate = change.similarity
    if estimate.high >= 0:
        return None
    return f"its lines are less like what was written: edit similarity {_span(estimate)}"


def _better(change: Summary, control: str) -> str:
    return (
        f"it predicts what was written later better than {control}: {_bits_text(change.bits_per_byte)},"
        f" {100 * change.exact.value:+.1f} points of exact match,"
        f" on {change.num_tasks} places of {change.num_commits} commits"
    )


def _bits_text(estimate: Estimate) -> str:
    return f"{_span(estimate)} bits per byte"


def _span(estimate: Estimate) -> str:
    return f"{estimate.value:+.3f} (95 %: {estimate.low:+.3f} to {estimate.high:+.3f})"
