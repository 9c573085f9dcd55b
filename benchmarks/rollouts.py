"""How often a rollout decides, rightly or wrongly: simulated users who differ in what they accept.

python benchmarks/rollouts.py        (looks after each of 8 rounds; 60 users)
"""

from __future__ import annotations

import random
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path

from homespun_core.outcomes import Outcome
from homespun_core.prompt_versions import PromptVersion
from homespun_server.rollout.arms import is_in_share
from homespun_server.rollout.prompts import Trial
from homespun_server.rollout.stages import Arms, Limits, Stage, State, advance, regression

sys.path.append(str(Path(__file__).parents[1]))  # of the repository, for its tests
from tests.arms import arm

USERS, ROUNDS, ACCEPTANCE = 30, 8, 0.3
FACTORS = {"as good": 1.0, "half as often": 0.5, "a third": 1 / 3, "a sixth": 1 / 6, "twice as often": 2.0}
SAME_SEEDS, OTHER_SEEDS = 300, 100
TRIAL = Trial([PromptVersion(name="other", changes={"snippet_count": 5})])


def asked(rng: random.Random, rates: Mapping[str, float], factor: float) -> list[Outcome]:
    return [_outcome(rng, user, min(1.0, rate * factor)) for user, rate in rates.items()]


def staged(seed: int, factor: float) -> str:
    """What ends the two stages, with a quarter and then half of the users."""
    rng = random.Random(seed)
    rates = _rates(rng, 2 * USERS)
    stages: tuple[tuple[Stage, int], ...] = (("canary", USERS // 2), ("half", USERS))
    for stage, num_trying in stages:
        verdict = _verdict(rng, rates, num_trying, stage, factor)
        if verdict != "wait":
            return f"{stage}: {verdict}"
    return "nothing"


def watched(seed: int, factor: float) -> str:
    """Whether the same users' outcomes after a full rollout undo it."""
    rng = random.Random(seed)
    rates = _rates(rng, USERS)
    before = arm(o for _ in range(ROUNDS) for o in asked(rng, rates, 1.0))
    after: list[Outcome] = []
    for _ in range(ROUNDS):
        after += asked(rng, rates, factor)
        if regression(before, arm(after), "v1"):
            return "rolled back"
    return "nothing"


def tried(seed: int, factor: float, beside: float = 1.0) -> str:
    """What is said of another prompt that half of the users have, `beside` an adapter that half of them have, too, and
    accept so many times as often."""
    rng, seen = random.Random(seed), defaultdict[str, list[Outcome]](list)
    rates = {f"{seed} {user}": rate for user, rate in _rates(rng, 2 * USERS).items()}
    for _ in range(ROUNDS):
        for user, rate in rates.items():
            drawn = TRIAL.drawn(user) or ""
            times = (factor if drawn == "other" else 1.0) * (beside if is_in_share(user, "shop/v2", 50) else 1.0)
            seen[drawn] += asked(rng, {user: rate}, times)
        verdict = TRIAL.decisions({name: arm(seen[name]) for name in TRIAL.names})["other"].verdict
        if verdict != "wait":
            return verdict
    return "nothing"


SIMULATED: Mapping[str, Callable[[int, float], str]] = {
    "stages": staged,
    "watch": watched,
    "prompt": tried,
    "prompt beside an adapter": partial(tried, beside=2.0),
}


def _verdict(rng: random.Random, rates: Mapping[str, float], num_trying: int, stage: Stage, factor: float) -> str:
    state = State(candidate="v2", champion="v1", stage=stage, since=0.0)
    users = list(rates)
    trying, others = _of(rates, users[:num_trying]), _of(rates, users[num_trying:])
    champion: list[Outcome] = []
    candidate: list[Outcome] = []
    for _ in range(ROUNDS):
        champion += asked(rng, others, 1.0)
        candidate += asked(rng, trying, factor)
        found = Arms(champion=arm(champion), candidate=arm(candidate))
        state, decision = advance(state, found, 1.0, Limits(min_days=1.0))
        if decision.verdict != "wait":
            return decision.verdict
    return "wait"


def _of(rates: Mapping[str, float], users: Iterable[str]) -> dict[str, float]:
    return {user: rates[user] for user in users}


def _rates(rng: random.Random, number: int) -> dict[str, float]:
    return {f"user {i}": rng.betavariate(4 * ACCEPTANCE, 4 * (1 - ACCEPTANCE)) for i in range(number)}


def _outcome(rng: random.Random, user: str, rate: float) -> Outcome:
    kept = rng.randrange(5, 60) if rng.random() < rate else 0
    return Outcome(
        completion="c",
        time=1.0,
        user=user,
        repository="loom",
        language=None,
        adapter=None,
        is_shown=True,
        is_accepted=kept > 0,
        accepted_characters=kept,
        kept_characters=kept,
        latency_ms=rng.lognormvariate(5.0, 0.4),
    )


def main() -> None:
    for name, factor in FACTORS.items():
        seeds = range(SAME_SEEDS if factor == 1.0 else OTHER_SEEDS)
        for kind, simulate in SIMULATED.items():
            ends = Counter(simulate(seed, factor) for seed in seeds)
            shares = ", ".join(f"{end} {count / len(seeds):.1%}" for end, count in ends.most_common())
            print(f"accepted {name:15} {kind:25} {shares}", flush=True)


if __name__ == "__main__":
    main()
