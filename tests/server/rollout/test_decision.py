from __future__ import annotations

import random
from dataclasses import replace

from homespun_core.outcomes import Outcome
from homespun_server.rollout.decision import ALPHA, Decision, decide

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
        decision = decide(champion, candidate)
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
    arm = [replace(one, user=f"user {i % 3}") for i in range(10_000)]
    assert decide(arm, [replace(outcome, kept_characters=0) for outcome in arm]).verdict == "wait"


def test_arms_that_are_all_alike_decide_nothing() -> None:
    arm = [replace(_outcome(random.Random(0), f"user {i}", 1.0, 1.0)) for i in range(40)]
    assert decide(arm, arm).verdict == "wait"
