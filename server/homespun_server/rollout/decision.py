"""Whether users are better off with the candidate, by what became of their completions. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import quantiles
from typing import Literal

from homespun_core.outcomes import Outcome
from homespun_server.rollout.evidence import MIN_USERS, Difference, Measure, difference

Verdict = Literal["approve", "reject", "wait"]

ALPHA = 0.05
"""How likely it is, at all times together, that a candidate as good as the champion is rejected; or approved."""
_SLOWER = 1.25
"""Times the champion's 95th percentile: as late as that is late."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    verdict: Verdict
    reason: str


def decide(champion: Sequence[Outcome], candidate: Sequence[Outcome], alpha: float = ALPHA) -> Decision:
    """May be asked after every outcome. One proven loss rejects, whatever else was gained."""
    if min(len({o.user for o in arm}) for arm in (champion, candidate)) < MIN_USERS:
        return Decision(verdict="wait", reason=f"fewer than {MIN_USERS} users in an arm")
    late = quantiles([o.latency_ms for o in champion], n=20, method="inclusive")[-1] * _SLOWER
    losses: dict[str, Measure] = {
        "kept characters per opportunity": lambda o: -o.kept_characters,
        "acceptance": lambda o: -float(o.is_accepted),
        f"completions later than {late:.0f} ms": lambda o: float(o.latency_ms > late),
    }
    for name, measure in losses.items():
        more = difference(champion, candidate, measure, 2 * alpha / len(losses))
        if more.is_gain:
            return Decision(verdict="reject", reason=f"users are worse off: {name} (loss {_range(more)})")
    kept = difference(champion, candidate, lambda o: o.kept_characters, 2 * alpha)
    reason = f"kept characters per opportunity: {_range(kept)}"
    return Decision(verdict="approve" if kept.is_gain else "wait", reason=reason)


def _range(found: Difference) -> str:
    low, high = found.gain - found.radius, found.gain + found.radius
    return f"{found.gain:+.3g}, surely between {low:+.3g} and {high:+.3g}"
