from __future__ import annotations

import math
from dataclasses import dataclass

from homespun_server.engine.budget import StepBudget
from homespun_server.engine.scheduler import admit, in_order, pick

BUDGET = StepBudget(max_rows=4, prefill_chunk=64, max_nodes=4)


@dataclass(frozen=True, slots=True, kw_only=True)
class Someone:
    name: str
    rank: int = 1
    deadline: float = math.inf
    order: int = 0
    queued_at: float = 0.0
    served_before: float = -math.inf
    weights: object = "base"
    is_alone: bool = False
    num_pending: int = 1
    last_turn: int = 0


def _names(jobs: list[Someone]) -> str:
    return "".join(job.name for job in jobs)


def _picked(*jobs: Someone, last_turns: dict[int, int] | None = None) -> list[tuple[str, int]]:
    return [(share.job.name, share.num_ids) for share in pick(jobs, last_turns or {}, BUDGET)]


def test_rank_goes_before_deadline_and_deadline_before_arrival() -> None:
    jobs = [
        Someone(name="w", rank=3, deadline=1),
        Someone(name="l", deadline=9, order=0),
        Someone(name="e", deadline=5, order=2),
        Someone(name="f", deadline=5, order=1),
        Someone(name="i", rank=0),
    ]
    assert _names(in_order(jobs)) == "ifelw"


def test_who_had_a_turn_since_the_longest_waiting_came_goes_after_the_others() -> None:
    fast = Someone(name="f", deadline=1, queued_at=5, served_before=4)
    slow = Someone(name="s", deadline=9, queued_at=3)
    assert _names(in_order([fast, slow])) == "sf"
    assert _names(in_order([fast, Someone(name="s", deadline=9, queued_at=4.5)])) == "fs"


def test_what_is_asked_ahead_takes_half_of_the_places_and_warm_only_an_idle_engine() -> None:
    ahead = [Someone(name="a", rank=2, order=n) for n in range(4)]
    warm = [Someone(name="w", rank=3, order=n) for n in range(2)]
    assert _names(admit([*warm, *ahead, Someone(name="t")], [], 4)) == "taa"
    assert _names(admit(ahead, [Someone(name="t")] * 3, 4)) == "a"
    assert _names(admit(warm, [], 4)) == "w"
    assert _names(admit(warm, [Someone(name="t")], 4)) == ""
    assert _names(admit(warm, [warm[0]], 4)) == ""
    assert _names(admit([Someone(name="t")], [Someone(name="t")] * 4, 4)) == ""
    assert _names(admit([Someone(name="t")], [warm[0]], 1)) == "t"


def test_those_that_decide_share_a_forward_with_one_chunk_of_prompts() -> None:
    assert _picked(
        Someone(name="a"), Someone(name="b", num_pending=50), Someone(name="c", num_pending=500), Someone(name="d")
    ) == [("a", 1), ("d", 1), ("b", 50), ("c", 14)]
    assert _picked(Someone(name="a", num_pending=500)) == [("a", 64)]
    assert _picked() == []


def test_where_rows_dont_reach_the_longest_waiting_goes_first() -> None:
    jobs = [Someone(name=str(n), last_turn=9 - n) for n in range(6)]
    assert _picked(*jobs) == [("5", 1), ("4", 1), ("3", 1), ("2", 1)]


def test_weights_take_turns_and_interactive_ones_more_often() -> None:
    a, b = Someone(name="a", weights="A"), Someone(name="b", weights="B")
    ahead = Someone(name="x", weights="B", rank=2)
    for other, share in ((b, 5), (ahead, 2)):
        turns: dict[int, int] = {id("A"): 0, id("B"): 0}
        names = ""
        for turn in range(1, 11):
            [(name, _)] = _picked(a, other, last_turns=turns)
            turns[id("A" if name == "a" else "B")] = turn
            names += name
        assert names.count(other.name) in (share, share + 1)


def test_a_score_shares_no_forward() -> None:
    score = Someone(name="s", is_alone=True, weights="scores")
    a = Someone(name="a")
    assert _picked(score, a, last_turns={id("scores"): 1, id("base"): 2}) == [("s", 1)]
    assert _picked(score, a, last_turns={id("scores"): 2, id("base"): 1}) == [("a", 1)]


def test_a_prompt_asked_ahead_waits_for_who_types_but_not_for_ever() -> None:
    typed = Someone(name="t", last_turn=20)
    assert _picked(typed, Someone(name="a", rank=2, num_pending=99, last_turn=15), last_turns={id("base"): 20}) == [
        ("t", 1)
    ]
    assert _picked(typed, Someone(name="a", rank=2, num_pending=99, last_turn=1), last_turns={id("base"): 20}) == [
        ("t", 1),
        ("a", 64),
    ]


def test_warm_work_runs_only_alone() -> None:
    warm = Someone(name="w", rank=3, num_pending=99)
    assert _picked(warm, Someone(name="t")) == [("t", 1)]
    assert _picked(warm) == [("w", 64)]
