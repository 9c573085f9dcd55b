from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from statistics import fmean, quantiles

from hypothesis import given
from hypothesis import strategies as st

from homespun_core.outcomes import Outcome
from homespun_server.rollout.decision import ALPHA, Decision, decide
from homespun_server.rollout.evidence import MIN_USERS, difference
from tests.arms import arm

USERS, ROUNDS = 30, 8
"""In each arm; everybody asks for a completion in each round, and the decision is looked at after it."""


def _outcome(rng: random.Random, user: str, rate: float, slow: float) -> Outcome:
    is_accepted = rng.random() < rate
    kept = rng.randrange(5, 60) if is_accepted else 0
    return Outcome(
        completion="c",
        time=0.0,
        user=user,
        repository="loom",
        language="python",
        adapter=None,
        is_shown=True,
        is_accepted=is_accepted,
        accepted_characters=kept,
        kept_characters=kept,
        latency_ms=rng.lognormvariate(5.0, 0.4) * slow,
    )


def _arm(rng: random.Random, name: str, acceptance: float, slow: float) -> list[list[Outcome]]:
    """By round. Users differ: some accept nearly everything, others hardly anything."""
    rates = {f"{name} {i}": rng.betavariate(4 * acceptance, 4 * (1 - acceptance)) for i in range(USERS)}
    return [[_outcome(rng, user, rate, slow) for user, rate in rates.items()] for _ in range(ROUNDS)]


def _first_decision(seed: int, acceptance: float = 0.3, slow: float = 1.0) -> Decision:
    rng = random.Random(seed)
    arms = _arm(rng, "champion", 0.3, 1.0), _arm(rng, "candidate", acceptance, slow)
    champion: list[Outcome] = []
    candidate: list[Outcome] = []
    decision = Decision(verdict="wait", reason="")
    for one, other in zip(*arms, strict=True):
        champion += one
        candidate += other
        decision = decide(arm(champion), arm(candidate))
        if decision.verdict != "wait":
            break
    return decision


def test_without_a_difference_looking_all_the_time_seldom_decides() -> None:
    found = [_first_decision(seed).verdict for seed in range(300)]
    assert found.count("approve") / len(found) < ALPHA
    assert found.count("reject") / len(found) < ALPHA


def test_a_real_loss_is_caught() -> None:
    found = [_first_decision(seed, acceptance=0.05) for seed in range(40)]
    assert sum(decision.verdict == "reject" for decision in found) >= 36


def test_a_real_gain_is_approved() -> None:
    found = [_first_decision(seed, acceptance=0.7) for seed in range(40)]
    assert sum(decision.verdict == "approve" for decision in found) >= 36


def test_a_slower_candidate_is_rejected_although_its_completions_are_as_good() -> None:
    found = [_first_decision(seed, slow=2.0) for seed in range(40)]
    assert sum(decision.verdict == "reject" and " ms" in decision.reason for decision in found) >= 36


def test_many_outcomes_of_few_users_decide_nothing() -> None:
    one = _outcome(random.Random(0), "ada", 1.0, 1.0)
    few = [replace(one, user=f"user {i % 3}") for i in range(10_000)]
    assert decide(arm(few), arm(replace(outcome, kept_characters=0) for outcome in few)).verdict == "wait"


def test_arms_that_are_all_alike_decide_nothing() -> None:
    same = arm(_outcome(random.Random(0), f"user {i}", 1.0, 1.0) for i in range(40))
    assert decide(same, same).verdict == "wait"


def _decided_one_by_one(champion: Sequence[Outcome], candidate: Sequence[Outcome]) -> tuple[str, float]:
    """The definition: of each user the mean of what each of their outcomes measures. The verdict, and how late is
    late."""
    late = 1.25 * quantiles([o.latency_ms for o in champion], n=20, method="inclusive")[-1]
    losses: list[Callable[[Outcome], float]] = [
        lambda o: -o.kept_characters,
        lambda o: -float(o.is_accepted),
        lambda o: float(o.latency_ms > late),
    ]
    means = [[_means(outcomes, loss) for outcomes in (champion, candidate)] for loss in losses]
    if any(difference(a, b, 2 * ALPHA / 3).is_gain for a, b in means):
        return "reject", late
    return "approve" if difference(means[0][0], means[0][1], 2 * ALPHA).is_loss else "wait", late


def _means(outcomes: Sequence[Outcome], measure: Callable[[Outcome], float]) -> list[float]:
    by_user = defaultdict[str, list[float]](list)
    for outcome in outcomes:
        by_user[outcome.user].append(measure(outcome))
    return [fmean(values) for values in by_user.values()]


@given(
    seed=st.integers(0, 2**32),
    acceptance=st.floats(0.05, 0.95),
    slow=st.floats(0.5, 3.0),
    num_users=st.integers(1, USERS),
)
def test_sums_by_user_decide_as_outcomes_one_by_one(seed: int, acceptance: float, slow: float, num_users: int) -> None:
    rng = random.Random(seed)
    champion, candidate = (
        [_outcome(rng, f"user {rng.randrange(num_users)}", rate, times) for _ in range(rng.randrange(2, 400))]
        for rate, times in ((0.3, 1.0), (acceptance, slow))
    )
    found = decide(arm(champion), arm(candidate))
    if min(len({o.user for o in outcomes}) for outcomes in (champion, candidate)) < MIN_USERS:
        assert found.verdict == "wait"
        return
    verdict, late = _decided_one_by_one(champion, candidate)
    assert found.verdict == verdict and (" ms" not in found.reason or f" {late:.0f} ms" in found.reason)
