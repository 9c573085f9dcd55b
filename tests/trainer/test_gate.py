from __future__ import annotations

import pytest

from homespun_trainer.evaluate import Summary
from homespun_trainer.gate import decide
from homespun_trainer.intervals import Estimate

BETTER, UNSURE, WORSE = (-0.2, -0.3, -0.1), (-0.05, -0.15, 0.05), (0.1, 0.05, 0.2)


def change(
    bits: tuple[float, float, float] = BETTER,
    exact: float = 0.02,
    similarity: tuple[float, float, float] = (0.01, -0.01, 0.03),
    tasks: int = 200,
    commits: int = 60,
) -> Summary:
    def estimate(values: tuple[float, float, float]) -> Estimate:
        return Estimate(value=values[0], low=values[1], high=values[2])

    return Summary(
        num_tasks=tasks,
        num_commits=commits,
        exact=estimate((exact, exact - 0.03, exact + 0.03)),
        similarity=estimate(similarity),
        bits_per_byte=estimate(bits),
        text_bits_per_byte=estimate(bits),
    )


@pytest.mark.parametrize(
    ("summary", "promote", "said"),
    [
        (change(), True, "better than the base model"),
        (change(bits=UNSURE), False, "doesn't surely predict"),
        (change(bits=WORSE), False, "doesn't surely predict"),
        (change(bits=(-0.1, -0.2, 0.0)), False, "doesn't surely predict"),
        (change(bits=(-0.004, -0.006, -0.002)), False, "hardly better"),
        (change(exact=-0.009), True, "better than"),
        (change(exact=-0.014), True, "better than"),  # within the standard error: the interval is 6 points wide
        (change(exact=-0.02), False, "-2.0 points of exact match"),
        (change(similarity=(-0.02, -0.04, -0.001)), False, "less like what was written"),
        (change(similarity=(-0.02, -0.04, 0.001)), True, "better than"),
        (change(tasks=49), False, "49 held-out places"),
        (change(tasks=50, commits=10), True, "better than"),
        (change(commits=9), False, "9 commits"),
    ],
)
def test_decision_table(summary: Summary, promote: bool, said: str) -> None:
    decision = decide(summary, "the base model")
    assert decision.promote is promote
    assert said in " ".join(decision.reasons)


def test_all_that_speaks_against_an_adapter_is_said() -> None:
    decision = decide(change(bits=WORSE, exact=-0.1, similarity=(-0.1, -0.2, -0.05)), "the base model")
    assert len(decision.reasons) == 3


def test_nothing_to_judge_it_on_is_a_no() -> None:
    assert decide(None, "the base model").promote is False
