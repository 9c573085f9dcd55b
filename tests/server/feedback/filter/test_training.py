"""What a filter learns from, and what keeps one from being published."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import replace

import pytest

from homespun_core.outcomes import Outcome
from homespun_server.feedback.filter.examples import Example, examples
from homespun_server.feedback.filter.training import MAX_LOST, TooLittleDataError, train
from homespun_server.feedback.filter.verdicts import EXPLORED, sigmoid

Chance = Callable[[float, str, int], float]
NUM = 4_000
NEWEST = NUM * 3 // 4

OUTCOME = Outcome(
    completion="c",
    time=100_000.0,
    user="ann",
    repository=None,
    language="go",
    adapter=None,
    is_shown=True,
    is_accepted=True,
    accepted_characters=9,
    kept_characters=7,
    latency_ms=1.0,
)


def made(chance: Chance, *, seed: int = 1) -> list[Example]:
    """`chance` of being kept, by the one feature, the language and the place in time."""
    dice = random.Random(seed)
    rows = []
    for n in range(NUM):
        x, language = dice.gauss(0, 1), dice.choice(("python", "go"))
        kept = 20 if dice.random() < chance(x, language, n) else 0
        rows.append(
            Example(
                features={"mean_logprob": x},
                language=language,
                kept_characters=kept,
                group=(f"u{n % 20}", n // 400),
                weight=1.0,
            )
        )
    return rows


def likes_sure_ones(x: float, language: str, n: int) -> float:
    return sigmoid(2.5 * x - 1)


def failed(chance: Chance) -> set[str]:
    return {check.name for check in train(made(chance), "v")[1].checks if not check.is_met}


def test_what_is_learned_is_published_and_loses_little() -> None:
    filter, report = train(made(likes_sure_ones), "v")
    assert report.is_approved and report.judged.lost <= MAX_LOST and report.judged.hidden > 0.15
    assert filter.weights["mean_logprob"] > 0 and set(filter.thresholds) == {"python", "go"}


@pytest.mark.parametrize(
    ("chance", "reason"),
    [
        (lambda x, language, n: likes_sure_ones(-x if n >= NEWEST else x, language, n), "kept characters lost"),
        (lambda x, language, n: likes_sure_ones(x, language, n) / (3 if n >= NEWEST else 1), "calibration error"),
        (lambda x, language, n: 0.3, "standard errors above no filter"),
        (lambda x, language, n: 0.3, "completions hidden"),
    ],
    ids=["taste turned round", "less is kept lately", "nothing to learn", "nothing to hide"],
)
def test_what_fails_on_the_newest_quarter_is_not_published(chance: Chance, reason: str) -> None:
    assert reason in failed(chance)


@pytest.mark.parametrize(
    ("since", "is_withdrawn"),
    [
        (lambda x, language, n: likes_sure_ones(-x if n >= NEWEST else x, language, n), True),
        (lambda x, language, n: likes_sure_ones(x, language, n) / (3 if n >= NEWEST else 1), False),
    ],
    ids=["it hides what is kept now", "it hides what still nobody keeps"],
)
def test_a_live_filter_is_judged_again_where_a_new_one_fails(since: Chance, is_withdrawn: bool) -> None:
    """It stayed, whatever it did to what people kept."""
    live, _ = train(made(likes_sure_ones), "live")
    report = train(made(since), "new", live)[1]
    assert not report.is_approved and report.before is not None
    assert (report.before.version, report.before.is_withdrawn) == ("live", is_withdrawn)
    assert (report.before.judged.lost > MAX_LOST) == is_withdrawn


def test_a_live_filter_that_a_new_one_replaces_is_not_judged() -> None:
    live, _ = train(made(likes_sure_ones), "live")
    assert train(made(likes_sure_ones), "new", live)[1].before is None


def test_a_language_in_which_too_much_was_lost_hides_nothing_from_then_on() -> None:
    filter, report = train(
        made(lambda x, language, n: 0.3 if language == "go" and n >= NEWEST else likes_sure_ones(x, language, n)), "v"
    )
    assert report.languages["go"].lost > MAX_LOST and filter.thresholds["go"] == 0
    assert filter.thresholds["python"] > 0


@pytest.mark.parametrize(("kept", "missing"), [(0, "200 more kept"), (5, "more not kept")])
def test_one_kind_of_example_alone_teaches_nothing(kept: int, missing: str) -> None:
    alike = [replace(e, kept_characters=kept) for e in made(likes_sure_ones)]
    with pytest.raises(TooLittleDataError, match=missing):
        train(alike, "v")


@pytest.mark.parametrize(
    ("changes", "features"), [({"is_shown": False}, {}), ({}, {"is_invoked": 1.0})], ids=["never shown", "asked for"]
)
def test_only_what_was_shown_unasked_is_learned_from(
    changes: Mapping[str, bool], features: Mapping[str, float]
) -> None:
    assert examples([(replace(OUTCOME, **changes), features)]) == []  # type: ignore[arg-type]


def test_an_explored_completion_stands_for_the_hidden_ones_like_it() -> None:
    found = examples([(replace(OUTCOME, verdict=said), {}) for said in (None, "show", "would_hide", "explore")])
    assert [e.weight for e in found] == [1, 1, 1, 1 / EXPLORED]
    assert found[0].kept_characters == 7 and found[0].group == ("ann", 1)
