from __future__ import annotations

import math
import sys
from dataclasses import dataclass, replace

from homespun_server.engine.budget import StepBudget
from homespun_server.engine.scheduler import admit, in_order, pick

BUDGET = StepBudget(max_rows=4, prefill_chunk=64, max_nodes=4, max_quick=20)


@dataclass(slots=True, kw_only=True, eq=False)
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


def _picked(
    *jobs: Someone, now: float = 0.0, is_chunk_due: bool = False, budget: StepBudget = BUDGET
) -> list[tuple[str, int]]:
    shares = pick(jobs, budget, now, is_chunk_due=is_chunk_due)
    return [(share.job.name, share.num_ids) for share in shares]


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


def test_a_long_prompt_waits_for_all_who_are_quick() -> None:
    """What a keystroke added had to wait until all of somebody else's prompt was computed, since prompts took turns."""
    long = Someone(name="l", num_pending=500)
    quick = [Someone(name="d"), Someone(name="k", num_pending=2, order=1)]
    assert _picked(long, *quick) == [("d", 1), ("k", 2)]
    assert _picked(long, Someone(name="o", weights="other")) == [("o", 1)]
    assert _picked(long) == [("l", 64)]
    assert _picked(long, Someone(name="m", num_pending=500, order=1)) == [("l", 64)]
    assert _picked() == []


def test_a_chunk_that_is_due_takes_those_of_its_weights_along() -> None:
    long = Someone(name="l", num_pending=500)
    quick = [Someone(name="d"), Someone(name="k", num_pending=20), Someone(name="m", num_pending=20)]
    other = Someone(name="o", weights="other")
    assert _picked(long, *quick, other, is_chunk_due=True) == [("d", 1), ("k", 20), ("l", 44)]
    many = [Someone(name=str(n), num_pending=20) for n in range(9)]
    assert _picked(long, *many, is_chunk_due=True)[-1] == ("l", 44), "however many come along"
    assert _picked(*quick, other, is_chunk_due=True) == [("d", 1), ("k", 20)], "where none is long, nothing is due"


def test_a_chunk_holds_the_end_of_one_prompt_and_the_beginning_of_the_next() -> None:
    jobs = [Someone(name=name, num_pending=n, order=i) for i, (name, n) in enumerate([("a", 40), ("b", 99), ("c", 99)])]
    assert _picked(*jobs) == [("a", 40), ("b", 24)]


def test_where_a_chunk_is_cheap_all_share() -> None:
    cheap = replace(BUDGET, max_quick=sys.maxsize)
    assert _picked(Someone(name="a"), Someone(name="l", num_pending=500), budget=cheap) == [("a", 1), ("l", 64)]


def test_where_rows_dont_reach_the_longest_waiting_goes_first() -> None:
    jobs = [Someone(name=str(n), last_turn=9 - n) for n in range(6)]
    assert _picked(*jobs) == [("5", 1), ("4", 1), ("3", 1), ("2", 1)]


def test_whoever_is_first_takes_along_all_with_the_same_weights() -> None:
    a, b = Someone(name="a", weights="A", deadline=1), Someone(name="b", weights="B", deadline=2)
    c = Someone(name="c", weights="A", deadline=3)
    assert _picked(b, c, a) == [("a", 1), ("c", 1)]
    assert _picked(replace(a, rank=2), b) == [("b", 1)]


def test_who_has_waited_long_goes_before_everybody() -> None:
    typed, ahead = Someone(name="t", weights="A", queued_at=9.5), Someone(name="a", weights="B", rank=2, queued_at=9.2)
    assert _picked(typed, ahead, now=10.1) == [("t", 1)]
    assert _picked(typed, ahead, now=10.3) == [("a", 1)]
    first, second = (
        Someone(name="1", num_pending=99, deadline=9),
        Someone(name="2", num_pending=99, order=1, deadline=5),
    )
    assert _picked(first, second, now=0.9) == [("2", 64)]
    assert _picked(first, second, now=1.1) == [("1", 64)]


def test_a_score_shares_no_forward() -> None:
    score = Someone(name="s", is_alone=True, weights="scores")
    assert _picked(score, Someone(name="a", order=1)) == [("s", 1)]
    assert _picked(score, Someone(name="a", order=-1)) == [("a", 1)]


def test_a_prompt_asked_ahead_slows_down_nobody_who_types() -> None:
    typed, ahead = Someone(name="t"), Someone(name="a", rank=2, num_pending=9)
    assert _picked(typed, ahead) == [("t", 1)]
    assert _picked(Someone(name="t", num_pending=99), ahead, is_chunk_due=True) == [("t", 64)]
    assert _picked(ahead, replace(typed, order=1), now=1.5) == [("t", 1), ("a", 9)], "both have waited, it longer"


def test_warm_work_runs_only_alone() -> None:
    warm = Someone(name="w", rank=3, num_pending=99)
    assert _picked(warm, Someone(name="t")) == [("t", 1)]
    assert _picked(warm) == [("w", 64)]
