"""Whether users are better off with the candidate, by what became of their completions. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from homespun_server.feedback.tallies import Arm, Tally, p95_ms
from homespun_server.rollout.evidence import MIN_USERS, Difference, difference

Verdict = Literal["approve", "reject", "wait"]
Measure = Callable[[Tally], float]
"""The mean of a user's opportunities."""

ALPHA = 0.05
"""About how likely it is, at all times together, that a candidate as good as the champion is rejected; or approved
(`evidence` says how far that is proven)."""
_SLOWER = 1.25
"""Times the champion's 95th percentile: as late as that is late."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    verdict: Verdict
    reason: str


def decide(champion: Arm, candidate: Arm, alpha: float = ALPHA) -> Decision:
    """May be asked after every outcome. One proven loss rejects, whatever else was gained."""
    if min(len(champion), len(candidate)) < MIN_USERS or (usual := p95_ms(champion)) is None:
        return Decision(verdict="wait", reason=f"fewer than {MIN_USERS} users in an arm")
    late = usual * _SLOWER
    losses: dict[str, Measure] = {
        "kept characters per opportunity": lambda tally: -tally.summary.kept_per_opportunity,
        "acceptance": lambda tally: -tally.summary.accepted / tally.summary.opportunities,
        f"completions later than {late:.0f} ms": lambda tally: _share_after(late, tally),
    }
    for name, measure in losses.items():
        more = _difference(champion, candidate, measure, 2 * alpha / len(losses))
        if more.is_gain:
            return Decision(verdict="reject", reason=f"users are worse off: {name} (loss {_range(more)})")
    kept = _difference(champion, candidate, lambda tally: tally.summary.kept_per_opportunity, 2 * alpha)
    reason = f"kept characters per opportunity: {_range(kept)}"
    return Decision(verdict="approve" if kept.is_gain else "wait", reason=reason)


def _difference(champion: Arm, candidate: Arm, measure: Measure, alpha: float) -> Difference:
    a, b = ([measure(tally) for tally in arm.values()] for arm in (champion, candidate))
    return difference(a, b, alpha)


def _share_after(late: float, tally: Tally) -> float:
    return sum(ms > late for ms in tally.latencies_ms) / tally.summary.opportunities


def _range(found: Difference) -> str:
    low, high = found.gain - found.radius, found.gain + found.radius
    return f"{found.gain:+.3g}, surely between {low:+.3g} and {high:+.3g}"
