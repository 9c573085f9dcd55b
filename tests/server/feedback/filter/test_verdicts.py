"""What is hidden, and what never is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homespun_server.feedback.filter.verdicts import EXPLORED, Filter, is_explored, sigmoid, verdict

FILTER = Filter(
    version="v",
    intercept=0.0,
    weights={"mean_logprob": 2.0},
    spreads={"mean_logprob": 1.0},
    threshold=0.2,
    thresholds={"go": 0.0},
)
GOOD, BAD = {"mean_logprob": -0.1, "unheard_of": 9.0}, {"mean_logprob": -2.0}
DRAWN = next(f"c{n}" for n in range(1_000) if is_explored(f"c{n}"))
UNDRAWN = next(f"c{n}" for n in range(1_000) if not is_explored(f"c{n}"))


@pytest.mark.parametrize(
    ("features", "completion", "language", "may_hide", "said"),
    [
        (GOOD, UNDRAWN, "python", True, "show"),
        (BAD, UNDRAWN, "python", True, "hide"),
        (BAD, UNDRAWN, None, True, "hide"),
        (BAD, DRAWN, "python", True, "explore"),
        (GOOD, DRAWN, "python", True, "show"),
        (BAD, UNDRAWN, "python", False, "would_hide"),
        (BAD, DRAWN, "python", False, "would_hide"),
        (BAD, UNDRAWN, "go", True, "show"),
    ],
)
def test_unlikely_completions_are_hidden_but_for_a_drawn_share(
    features: dict[str, float], completion: str, language: str | None, may_hide: bool, said: str
) -> None:
    found = verdict(FILTER, features, completion=completion, language=language, may_hide=may_hide)
    assert found == said


def test_about_the_share_is_drawn_and_always_the_same() -> None:
    drawn = [is_explored(f"cmpl-{n}") for n in range(20_000)]
    assert sum(drawn) / len(drawn) == pytest.approx(EXPLORED, abs=0.006)
    assert drawn == [is_explored(f"cmpl-{n}") for n in range(20_000)]


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_every_logit_has_a_probability(logit: float) -> None:
    assert 0 <= sigmoid(logit) <= 1
    assert sigmoid(logit) + sigmoid(-logit) == pytest.approx(1)
