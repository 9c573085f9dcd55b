from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from homespun_core.outcomes import Outcome
from homespun_server.rollout.stages import (
    DAY_S,
    Arms,
    Limits,
    State,
    advance,
    going_on,
    regression,
    share_percent,
)
from tests.arms import arm

USERS = [f"user {i}" for i in range(30)]
LIMITS = Limits(min_days=1.0, min_outcomes=50)
START = State(candidate="v2", champion="v1", since=0.0)


def outcomes(accepted: int, *, users: Sequence[str] = USERS) -> list[Outcome]:
    """Four of each user; `accepted` of them, one less for every third user."""
    return [
        Outcome(
            completion=f"{user} {turn}",
            time=1.0,
            user=user,
            repository="loom",
            language="python",
            adapter="v1",
            is_shown=True,
            is_accepted=turn < accepted - (number % 3 == 0),
            accepted_characters=20,
            kept_characters=20 * (turn < accepted - (number % 3 == 0)),
            latency_ms=20.0,
        )
        for number, user in enumerate(users)
        for turn in range(4)
    ]


def _arms(champion: int, candidate: int) -> Arms:
    return Arms(champion=arm(outcomes(champion)), candidate=arm(outcomes(candidate)))


def test_half_of_the_users_get_it_after_a_day_with_nothing_proven_against_it() -> None:
    early, _ = advance(START, _arms(2, 2), DAY_S / 2, LIMITS)
    assert early.stage == "canary" and "another 12.0 hours" in early.reason
    few, _ = advance(START, Arms(champion={}, candidate=arm(outcomes(2)[:20])), DAY_S, LIMITS)
    assert few.stage == "canary" and "another 30 completions" in few.reason
    late, decision = advance(START, _arms(2, 2), DAY_S, LIMITS)
    assert (late.stage, late.since, decision.verdict) == ("half", DAY_S, "wait")


def test_a_stage_of_next_year_begins_now() -> None:
    """It held the rollout up until then, after a clock that was ahead once."""
    ahead = replace(START, since=366 * DAY_S)
    assert going_on(ahead, "v2", "v1", DAY_S) == replace(START, since=DAY_S)
    assert going_on(START, "v2", "v1", DAY_S) == START


def test_the_first_stage_rejects_at_once_and_never_approves() -> None:
    assert advance(START, _arms(3, 1), 60.0, LIMITS)[1].verdict == "reject"
    assert advance(START, _arms(1, 3), 60.0, LIMITS)[1].verdict == "wait"


def test_the_second_stage_ends_by_either_verdict() -> None:
    half, _ = advance(START, _arms(2, 2), DAY_S, LIMITS)
    assert advance(half, _arms(1, 3), DAY_S, LIMITS)[1].verdict == "approve"
    assert advance(half, _arms(3, 1), DAY_S, LIMITS)[1].verdict == "reject"
    assert advance(half, _arms(2, 2), DAY_S, LIMITS)[1].verdict == "wait"


def test_what_nothing_is_proven_against_is_everybodys_after_a_week() -> None:
    half, _ = advance(START, _arms(2, 2), DAY_S, LIMITS)
    early, decision = advance(half, _arms(2, 2), 7 * DAY_S, LIMITS)
    assert decision.verdict == "wait" and "everybody gets it after another 24.0 hours" in early.reason
    unused = Arms(champion=arm(outcomes(2)), candidate=arm(outcomes(2)[:20]))
    assert advance(half, unused, 8 * DAY_S, LIMITS)[1].verdict == "wait"
    late, decision = advance(half, _arms(2, 2), 8 * DAY_S, LIMITS)
    assert decision.verdict == "approve" and "nothing is proven against it" in decision.reason == late.reason
    few = Arms(champion=arm(outcomes(2, users=USERS[:5]) * 3), candidate=arm(outcomes(2, users=USERS[:5]) * 3))
    assert advance(half, few, 8 * DAY_S, LIMITS)[1].verdict == "approve"
    assert advance(half, _arms(3, 1), 8 * DAY_S, LIMITS)[1].verdict == "reject"


def test_the_share_grows_for_this_candidate_only_and_never_shrinks() -> None:
    half, _ = advance(START, _arms(2, 2), DAY_S, LIMITS)
    assert [share_percent(s, "v2", 10.0) for s in (None, START, half)] == [10.0, 10.0, 50.0]
    assert share_percent(half, "v3", 10.0) == 10.0 and share_percent(half, "v2", 80.0) == 80.0


def test_evidence_begins_anew_with_another_champion_or_candidate() -> None:
    half, _ = advance(START, _arms(2, 2), DAY_S, LIMITS)
    assert going_on(half, "v2", "v1", 2 * DAY_S) == half
    changed = going_on(half, "v2", None, 5.0)
    assert (changed.stage, changed.since, changed.champion) == ("half", 5.0, None)
    assert going_on(half, "v3", "v1", 5.0).stage == "canary"


def test_users_who_accept_far_less_than_before_prove_a_regression() -> None:
    why = regression(arm(outcomes(3)), arm(outcomes(1)), "v1")
    assert why is not None and "before, not side by side" in why
    assert regression(arm(outcomes(2)), arm(outcomes(2)), "v1") is None


def test_other_users_than_before_prove_nothing() -> None:
    newcomers = [f"newcomer {i}" for i in range(30)]
    assert regression(arm(outcomes(3)), arm(outcomes(1, users=newcomers)), "v1") is None
