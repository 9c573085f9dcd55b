from __future__ import annotations

from dataclasses import replace

import pytest

from homespun_trainer.gate import MIN_CANARIES, Evidence, decide
from homespun_trainer.general import Forgetting
from homespun_trainer.intervals import Estimate
from homespun_trainer.memory import Exposure, Memory
from homespun_trainer.summaries import Summary

NAN = float("nan")
Values = tuple[float, float, float]
BETTER, UNSURE, WORSE = (-0.2, -0.3, -0.1), (-0.05, -0.15, 0.05), (0.1, 0.05, 0.2)


def estimate(values: Values) -> Estimate:
    return Estimate(value=values[0], low=values[1], high=values[2])


def change(
    bits: Values = BETTER,
    exact: float = 0.02,
    similarity: Values = (0.01, -0.01, 0.03),
    tasks: int = 200,
    commits: int = 60,
    milliseconds: Values = (0, -2, 2),
    stops: Values | None = None,
    ended: int = 60,
) -> Summary:
    return Summary(
        num_tasks=tasks,
        num_commits=commits,
        exact=estimate((exact, exact - 0.03, exact + 0.03)),
        similarity=estimate(similarity),
        identifiers=estimate(similarity),
        bits_per_byte=estimate(bits),
        text_bits_per_byte=estimate(bits),
        stop_accuracy=estimate(stops) if stops else None,
        milliseconds=estimate(milliseconds),
        num_ended=ended,
    )


def memory(
    once: float = 1.4,
    often: float = 3.0,
    count: int = 8,
    recited_after: int | None = None,
    leaks: int = 0,
    learned: tuple[float, ...] | None = None,
) -> Memory:
    """Half of those planted once are learned, unless `learned` has their bits."""
    learned = (once,) * (count // 2) if learned is None else learned
    planted = [
        Exposure(kind="token", insertions=1, bits=bits, is_recited=False, is_learned=is_learned)
        for bits, is_learned, times in ((once, False, count - len(learned)), *((bits, True, 1) for bits in learned))
        for _ in range(times)
    ]
    times = recited_after or 16
    return Memory(
        canaries=(
            *planted,
            Exposure(kind="token", insertions=times, bits=often, is_recited=recited_after is not None, is_learned=True),
        ),
        leaks=leaks,
    )


def forgetting(values: Values, library: str = "Python's standard library") -> list[Forgetting]:
    return [Forgetting(library=library, num_places=160, base=0.9, change=estimate(values))]


FINE = (0.01, 0.0, 0.02)


GOOD = Evidence(change=change(), control_ms=50.0, forgetting=forgetting(FINE), memory=memory())


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
        (change(stops=(-0.22, -0.35, -0.05)), False, "end where they should: -22.0 points (95 %: -35.0 to -5.0)"),
        (change(stops=(-0.037, -0.06, -0.01), ended=900), False, "end where they should: -3.7 points"),
        (change(stops=(-0.037, -0.13, 0.05)), True, "better than"),
        (change(stops=(-0.029, -0.04, -0.01)), True, "better than"),
        (change(stops=(-1.0, -1.0, -1.0), ended=19), True, "better than"),
        (change(tasks=49), False, "49 held-out places"),
        (change(tasks=50, commits=10), True, "better than"),
        (change(commits=9), False, "9 commits"),
        (change(milliseconds=(80, 60, 90)), False, "slower: +80 ms, where they took 50"),
        (change(milliseconds=(30, 19, 40)), True, "better than"),
        (None, False, "no held-out place"),
    ],
)
def test_decision_table(summary: Summary | None, promote: bool, said: str) -> None:
    decision = decide(replace(GOOD, change=summary), "the base model")
    assert decision.promote is promote
    assert said in " ".join(decision.reasons)


@pytest.mark.parametrize(
    ("evidence", "promote", "said"),
    [
        (replace(GOOD, memory=memory(once=4.1)), False, "4.1 bits of exposure"),
        (replace(GOOD, memory=memory(once=3.9, often=7.0)), True, "nothing by heart that it saw seldom"),
        (replace(GOOD, memory=memory(learned=(4.2, 4.2, 4.2, 4.2))), False, "4.2 bits of exposure"),
        (replace(GOOD, memory=memory(learned=(7.0, 7.0, 1.0, 1.0))), True, "better than"),
        (replace(GOOD, memory=memory(learned=(7.0, 7.0, 7.0), count=10)), False, "too shortly to say"),
        (replace(GOOD, memory=memory(learned=(), count=40)), False, "it saw 0 canaries once that it could learn"),
        (replace(GOOD, memory=memory(learned=(1.0,) * 3, leaks=2)), False, "wrote 2 credentials"),
        (replace(GOOD, memory=memory(recited_after=1)), False, "recites 1 of the canaries"),
        (replace(GOOD, memory=memory(recited_after=4)), False, "recites 1 of the canaries"),
        (replace(GOOD, memory=memory(recited_after=16)), True, "better than"),
        (replace(GOOD, memory=memory(leaks=2)), False, "wrote 2 credentials"),
        (replace(GOOD, memory=memory(learned=(1.4,) * (MIN_CANARIES - 1))), False, "too shortly"),
        (replace(GOOD, memory=None), False, "wasn't tested"),
        (replace(GOOD, forgetting=forgetting((0.2, 0.1, 0.3))), False, "forgets code that isn't yours: +0.200"),
        (replace(GOOD, forgetting=forgetting((0.026, 0.0, 0.05))), True, "other code suffers little"),
        (replace(GOOD, forgetting=()), True, "whether it forgets other code wasn't tested"),
        (replace(GOOD, untested=["go", "sql"]), True, "whether it forgets other code in go, sql wasn't tested"),
        (
            replace(GOOD, forgetting=forgetting(FINE) + forgetting((0.2, 0.1, 0.3), "Go's standard library")),
            False,
            "+0.200 (95 %: +0.100 to +0.300) bits per byte on Go's standard library",
        ),
        (replace(GOOD, languages={"go": change(bits=WORSE), "python": change()}), False, "worse at go (+0.100"),
        (replace(GOOD, languages={"go": change(bits=UNSURE)}), True, "better than"),
        (replace(GOOD, languages={"go": change(bits=WORSE, tasks=49)}), True, "better than"),
    ],
)
def test_nothing_may_be_worse_and_nothing_learned_by_heart(evidence: Evidence, promote: bool, said: str) -> None:
    decision = decide(evidence, "the base model")
    assert decision.promote is promote
    assert said in " ".join(decision.reasons)


UNKNOWN: Values = (NAN, NAN, NAN)
ENDLESS: Values = (-float("inf"), -float("inf"), NAN)
"""Of bits, where the control gives a line no chance at all."""


@pytest.mark.parametrize(
    ("evidence", "said"),
    [
        (
            replace(GOOD, change=change(bits=UNKNOWN)),
            "whether it predicts the code better can't be told: bits per byte",
        ),
        (replace(GOOD, change=change(bits=ENDLESS)), "whether it predicts the code better can't be told"),
        (replace(GOOD, change=change(bits=(-0.2, NAN, NAN))), "whether it predicts the code better can't be told"),
        (replace(GOOD, change=change(exact=NAN)), "whether it gets fewer lines right can't be told"),
        (replace(GOOD, change=change(similarity=UNKNOWN)), "whether its lines are less like what was written can't be"),
        (replace(GOOD, change=change(stops=UNKNOWN)), "whether fewer of its lines end where they should can't be told"),
        (replace(GOOD, change=change(milliseconds=UNKNOWN)), "whether it makes completions slower can't be told"),
        (replace(GOOD, control_ms=NAN), "whether it makes completions slower can't be told"),
        (replace(GOOD, forgetting=forgetting(UNKNOWN)), "can't be told: bits per byte on Python's standard library"),
        (
            replace(GOOD, forgetting=[replace(forgetting(ENDLESS)[0], base=float("inf"))]),
            "whether it forgets code that isn't yours can't be told",
        ),
        (replace(GOOD, languages={"go": change(bits=UNKNOWN)}), "whether it is worse at go can't be told"),
        (replace(GOOD, memory=memory(once=NAN)), "learns by heart"),
    ],
)
def test_what_is_no_number_speaks_against_an_adapter(evidence: Evidence, said: str) -> None:
    """NaN is neither above nor below a limit: one place without a number, and everything was let pass."""
    decision = decide(evidence, "the base model")
    assert not decision.promote
    assert len(decision.reasons) == 1 and said in decision.reasons[0]


def test_a_language_that_cannot_be_told_hides_no_other_one() -> None:
    languages = {name: change(bits=UNKNOWN if name == "c" else WORSE) for name in ("go", "c", "rust")}
    worse, untold = decide(replace(GOOD, languages=languages), "the base model").reasons
    assert "worse at go" in worse and "rust" in worse and "worse at c can't be told" in untold


def test_all_that_speaks_against_an_adapter_is_said() -> None:
    worse = change(bits=WORSE, exact=-0.1, similarity=(-0.1, -0.2, -0.05))
    decision = decide(Evidence(change=worse, memory=memory(once=5, leaks=1)), "the base model")
    assert len(decision.reasons) == 5
