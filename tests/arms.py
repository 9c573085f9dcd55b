"""Arms of outcomes that are at hand, as the store makes them of those in its database."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from homespun_core.outcomes import Outcome
from homespun_server.feedback.summary import summary
from homespun_server.feedback.tallies import Arm, Tally


def arm(outcomes: Iterable[Outcome]) -> Arm:
    by_user = defaultdict[str, list[Outcome]](list)
    for outcome in outcomes:
        if outcome.user:
            by_user[outcome.user].append(outcome)
    return {
        user: Tally(summary=summary(some), latencies_ms=[o.latency_ms for o in some]) for user, some in by_user.items()
    }
