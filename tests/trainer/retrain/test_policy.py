from __future__ import annotations

from dataclasses import replace
from datetime import time
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homespun_core.retraining import FreshScore, Run
from homespun_trainer.retrain.loop import in_words
from homespun_trainer.retrain.policy import Action, Decision, Rules, Scope, choose, decide, is_measuring_due
from homespun_trainer.retrain.times import Times
from tests.trainer.retrain.simulation import Company

NOW = 1_800_000_000.0
HOUR, DAY = 3_600.0, 86_400.0
TRAINED = Scope(head="b", total=5_000_000, trained="a", trained_at=NOW - 2 * DAY, changed=200_000)
RUN = Run(commit="old", started=NOW - HOUR, recipe="r")
TRYING, ROLLS_OUT = replace(TRAINED, tried=("v2", NOW - DAY)), Rules(rolls_out=True)
NIGHTLY = Times(zone=ZoneInfo("UTC"), schedule="0 2 * * *")

CASES: list[tuple[str, Scope, Rules, bool, str]] = [
    ("no adapter: at once", replace(TRAINED, trained=None, trained_at=None), Rules(), True, "no adapter yet"),
    ("enough has changed", TRAINED, Rules(), True, "200 kB of 5,000 kB"),
    ("the same commit", replace(TRAINED, head="a"), Rules(), False, "nothing has changed"),
    ("documentation only", replace(TRAINED, changed=0), Rules(), False, "nothing has changed"),
    ("too little has changed", replace(TRAINED, changed=149_999), Rules(), False, "less than 150 kB"),
    ("a large repository: its share counts", replace(TRAINED, total=20_000_000), Rules(), False, "less than 400 kB"),
    ("a week is over", replace(TRAINED, changed=10, trained_at=NOW - 7 * DAY), Rules(), True, "7 days ago"),
    ("soon after the last one", replace(TRAINED, trained_at=NOW - 11 * HOUR), Rules(), False, "less than 12 hours"),
    ("while pushes come", replace(TRAINED, pushed=(NOW - 90, NOW - 30)), Rules(), False, "pushes to end"),
    ("pushes that don't end", replace(TRAINED, pushed=(NOW - 301, NOW - 1)), Rules(), True, "200 kB"),
    ("new settings: at once", replace(TRAINED, head="a", is_recipe_new=True), Rules(), True, "settings"),
    ("too little code, and no more", replace(TRAINED, head="a", has_adapter=False), Rules(), False, "nothing"),
    ("too little code, and more", replace(TRAINED, changed=5, has_adapter=False), Rules(), True, "more code"),
    ("a paused run goes on", replace(TRAINED, running=RUN, pushed=(NOW, NOW)), Rules(), True, "goes on"),
    ("after a failure", replace(TRAINED, failures=1, failed_at=NOW - 599), Rules(), False, "failed"),
    ("a while after a failure", replace(TRAINED, failures=1, failed_at=NOW - 600), Rules(), True, "200 kB"),
    (
        "less that is accepted is one where drift is",
        replace(TRAINED, changed=5, is_accepted_less=True),
        Rules(trains_on_drift=True),
        True,
        "less is accepted",
    ),
    ("drift alone is no reason", replace(TRAINED, changed=5, has_drifted=True), Rules(), False, "less than"),
    (
        "unless it is wanted",
        replace(TRAINED, changed=5, has_drifted=True),
        Rules(trains_on_drift=True),
        True,
        "less likely",
    ),
    ("by schedule: any change", replace(TRAINED, changed=5), Rules(times=NIGHTLY), True, "schedule"),
    ("by schedule: not before", replace(TRAINED, trained_at=NOW), Rules(times=NIGHTLY), False, "schedule"),
    (
        "by schedule: an alarm is no reason",
        replace(TRAINED, trained_at=NOW - 3 * HOUR, has_drifted=True),
        Rules(times=NIGHTLY, gap=HOUR),
        False,
        "schedule has the next time",
    ),
    (
        "by schedule: unless it is wanted",
        replace(TRAINED, changed=5, trained_at=NOW - 3 * HOUR, has_drifted=True),
        Rules(times=NIGHTLY, gap=HOUR, trains_on_drift=True),
        True,
        "less likely",
    ),
    (
        "by schedule: so is less that is accepted",
        replace(TRAINED, changed=5, trained_at=NOW - 3 * HOUR, is_accepted_less=True),
        Rules(times=NIGHTLY, gap=HOUR, trains_on_drift=True),
        True,
        "less is accepted",
    ),
    (
        "by schedule: an alarm soon after the last one",
        replace(TRAINED, trained_at=NOW - 3 * HOUR, has_drifted=True),
        Rules(times=NIGHTLY, trains_on_drift=True),
        False,
        "less than 12 hours",
    ),
    ("while a candidate is tried", TRYING, ROLLS_OUT, False, "v2 is being tried"),
    ("new settings: all the same", replace(TRYING, is_recipe_new=True), ROLLS_OUT, True, "settings"),
    ("a candidate that a person decides about", TRYING, Rules(), True, "200 kB"),
    ("offered next year", replace(TRAINED, tried=("v2", NOW + 365 * DAY)), ROLLS_OUT, True, "200 kB"),
    ("trained next year", replace(TRAINED, trained_at=NOW + 365 * DAY), Rules(), True, "200 kB"),
    ("by schedule: next year", replace(TRAINED, trained_at=NOW + 365 * DAY), Rules(times=NIGHTLY), True, "schedule"),
    ("failed next year", replace(TRAINED, failures=9, failed_at=NOW + 365 * DAY), Rules(), True, "200 kB"),
    ("pushed next year", replace(TRAINED, pushed=(NOW - 90, NOW + 365 * DAY)), Rules(), True, "200 kB"),
    ("trained in a minute", replace(TRAINED, trained_at=NOW + 60), Rules(), False, "less than 12 hours"),
]


@pytest.mark.parametrize(("scope", "rules", "trains", "reason"), [c[1:] for c in CASES], ids=[c[0] for c in CASES])
def test_decisions(scope: Scope, rules: Rules, trains: bool, reason: str) -> None:
    decision = decide(scope, rules, NOW)
    assert (decision.action is Action.TRAIN) == trains
    assert reason in decision.reason and "\n" not in decision.reason


@pytest.mark.parametrize(("gap", "until"), [(12 * HOUR, NOW + 9 * HOUR), (30 * HOUR, NOW + 18 * HOUR)])
def test_an_alarm_waits_for_the_gap_or_the_schedule_whichever_ends_first(gap: float, until: float) -> None:
    """NOW is 08:00 in UTC. An adapter that stays because the new one was no better keeps its alarm: without a gap each
    push would train."""
    rules = Rules(times=NIGHTLY, gap=gap, trains_on_drift=True)
    alarming = replace(TRAINED, trained_at=NOW - 3 * HOUR, has_drifted=True)
    assert decide(alarming, rules, NOW).until == until
    assert decide(alarming, rules, until).action is Action.TRAIN


def test_a_paused_run_goes_on_with_its_commit_unless_it_is_old() -> None:
    assert decide(replace(TRAINED, running=RUN), Rules(), NOW).commit == "old"
    forgotten = replace(TRAINED, running=replace(RUN, started=NOW - 8 * DAY))
    assert decide(forgotten, Rules(), NOW).commit == "b"


@pytest.mark.parametrize(
    ("zone", "opens", "trained"),
    [
        ("Asia/Tokyo", "2027-01-15 22:00", "2027-01-13 17:00"),
        ("America/New_York", "2027-01-15 22:00", "2027-01-13 03:00"),
    ],
)
def test_times_are_said_by_the_clock_that_the_window_goes_by(zone: str, opens: str, trained: str) -> None:
    """It was the machine's, so a window of 22:00 in Tokyo was said to begin at 13:00."""
    times = Times(zone=ZoneInfo(zone), window=(time(22), time(2)))
    decision = decide(TRAINED, Rules(times=times), NOW)
    assert in_words(decision).endswith(f"outside of the hours for training, until {opens}")
    assert f"have changed since {trained} " in in_words(decision)


def test_outside_of_the_window_it_waits_until_that_opens() -> None:
    """NOW is 08:00 in UTC."""
    rules = Rules(times=Times(zone=ZoneInfo("UTC"), window=(time(22), time(6))))
    decision = decide(TRAINED, rules, NOW)
    assert decision.action is Action.WAIT and decision.until == NOW + 14 * HOUR
    assert decide(TRAINED, rules, decision.until).action is Action.TRAIN


scopes = st.builds(
    Scope,
    head=st.sampled_from("ab"),
    total=st.integers(0, 10_000_000),
    trained=st.none() | st.sampled_from("ab"),
    trained_at=st.floats(NOW - 30 * DAY, NOW),
    changed=st.integers(0, 400_000),
    has_adapter=st.booleans(),
    is_recipe_new=st.booleans(),
    pushed=st.none() | st.tuples(st.floats(NOW - 400, NOW - 50), st.floats(NOW - 50, NOW)),
    failures=st.integers(0, 30),
    failed_at=st.none() | st.floats(NOW - 2 * DAY, NOW),
    has_drifted=st.booleans(),
    tried=st.none() | st.tuples(st.just("v2"), st.floats(NOW - 40 * DAY, NOW)),
)
rules_drawn = st.builds(
    Rules,
    changed=st.integers(0, 300_000),
    gap=st.floats(0, 2 * DAY),
    age=st.floats(0, 20 * DAY),
    quiet=st.floats(0, 100),
    trains_on_drift=st.booleans(),
    rolls_out=st.booleans(),
)
scheduled = st.builds(replace, rules_drawn, times=st.just(NIGHTLY))


@given(scopes, rules_drawn | scheduled)
def test_waiting_ends_when_it_says_so(scope: Scope, rules: Rules) -> None:
    """At `until`, or at a later one named then, it trains: no repository waits for ever without a reason of its own."""
    now = NOW
    decision = decide(scope, rules, now)
    for _ in range(10):
        if decision.action is Action.TRAIN or decision.until is None:
            break
        assert decision.until > now
        now = decision.until
        decision = decide(scope, rules, now)
    idle = scope.trained is not None and not scope.is_recipe_new and (scope.trained == scope.head or not scope.changed)
    assert (decision.action is Action.WAIT) == idle


@given(scopes, rules_drawn | scheduled, *[st.floats(-40 * DAY, 2_000 * DAY)] * 4)
def test_no_clock_that_was_ahead_holds_anything_up_for_long(
    scope: Scope, rules: Rules, trained: float, failed: float, pushed: float, offered: float
) -> None:
    """It did for a year, if it was that much ahead once; training by hand didn't help."""
    ahead = replace(
        scope,
        trained_at=NOW + trained,
        failed_at=NOW + failed,
        pushed=(NOW - 400, NOW + pushed),
        tried=("v2", NOW + offered),
    )
    longest, now = DAY + max(rules.age, rules.gap, DAY, 5 * rules.quiet, 30 * DAY * rules.rolls_out), NOW
    decision = decide(ahead, rules, now)
    for _ in range(4):
        if decision.action is Action.TRAIN or decision.until is None:
            break
        assert now < decision.until <= now + longest
        now = decision.until
        decision = decide(ahead, rules, now)
    idle = scope.trained is not None and not scope.is_recipe_new and (scope.trained == scope.head or not scope.changed)
    assert (decision.action is Action.WAIT) == idle


def test_a_score_of_next_year_is_not_waited_for() -> None:
    score = FreshScore(
        at=NOW + 365 * DAY, adapter="1", head="a", places=12, bytes=1, bits=1, low=1, baseline=1, is_alarm=False
    )
    assert is_measuring_due([score], "1", "b", NOW)
    today = replace(score, at=NOW - HOUR)
    assert not is_measuring_due([today, score], "1", "b", NOW)


@given(scopes, rules_drawn | scheduled)
def test_what_was_trained_is_not_trained_again(scope: Scope, rules: Rules) -> None:
    done = replace(scope, trained=scope.head, trained_at=NOW, is_recipe_new=False, running=None)
    assert decide(done, rules, NOW + 30 * DAY).action is Action.WAIT


@given(st.dictionaries(st.text(max_size=3), st.sampled_from(Action), max_size=5))
def test_one_repository_is_trained_at_a_time_and_one_that_may_is(actions: dict[str, Action]) -> None:
    decisions = {name: Decision(action=action, reason="", commit="c") for name, action in actions.items()}
    chosen = choose(decisions)
    assert (chosen is None) == (Action.TRAIN not in actions.values())
    assert chosen is None or actions[chosen] is Action.TRAIN


@given(st.lists(st.tuples(st.floats(1, 40_000), st.integers(0, 60_000)), max_size=60), rules_drawn)
def test_pushes_lead_to_runs_that_are_apart_and_see_them_all(pushes: list[tuple[float, int]], rules: Rules) -> None:
    company = Company(replace(rules, age=min(rules.age, 7 * DAY)))
    for pause, size in pushes:
        company.pass_time(pause)
        company.push(size)
    company.pass_time(40 * DAY)
    assert all(b - a >= rules.gap - 1 for a, b in zip(company.runs, company.runs[1:], strict=False))
    assert company.untrained == 0
    assert len(company.runs) <= 1 + sum(size > 0 for _, size in pushes)
