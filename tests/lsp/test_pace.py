import pytest
from hypothesis import given
from hypothesis import strategies as st

from homespun_lsp.pace import Pace, debounce_ms, patience_ms

ms = st.floats(1, 5_000)


@pytest.mark.parametrize(
    ("gap", "answer", "wait"),
    [
        (150, None, 60),  # not known yet
        (150, 14, 0),  # there before the next key
        (150, 75, 0),
        (150, 112.5, 93.75),  # halfway
        (150, 150, 187.5),
        (150, 2_000, 187.5),
        (600, 2_000, 300),  # somebody who writes slowly doesn't wait longer still
        (80, 60, 50),
    ],
)
def test_a_fast_server_is_asked_at_once_and_a_slow_one_in_pauses(gap: float, answer: float | None, wait: float) -> None:
    assert debounce_ms(gap, answer) == pytest.approx(wait)


@given(ms, ms, ms)
def test_a_slower_server_is_never_asked_sooner(gap: float, answer: float, slower: float) -> None:
    low, high = sorted((answer, slower))
    assert 0 <= debounce_ms(gap, low) <= debounce_ms(gap, high) <= 300


@pytest.mark.parametrize(
    ("age", "answer", "wait", "patience"),
    [
        (0, None, 60, 60),
        (10, 100, 0, 0),  # just begun: a new one is better
        (10, 100, 60, 190),  # half of it is over by the time a new one would be sent
        (80, 100, 0, 120),
        (250, 100, 0, 0),  # it hangs
        (-100, 100, 0, 0),  # not even sent
    ],
)
def test_a_request_is_waited_for_when_it_is_half_through(
    age: float, answer: float | None, wait: float, patience: float
) -> None:
    assert patience_ms(age, answer, wait) == patience


def test_the_wait_counts_from_the_last_key_and_pauses_are_no_gaps() -> None:
    pace = Pace()
    for at in (0.0, 0.1, 0.2, 0.3, 5.0, 5.1, 5.2):
        pace.key(at)
    assert pace.gap_ms == pytest.approx(100)
    assert pace.wait_ms(5.2, 80) == pytest.approx(80)
    assert pace.wait_ms(5.25, 80) == pytest.approx(30)
    assert pace.wait_ms(5.4, 80) == 0, "the editor has waited long enough"
    pace.answered(200)
    assert pace.wait_ms(5.2, None) == pytest.approx(125)


def test_a_usual_pace_is_assumed_until_some_keys_are_known() -> None:
    pace = Pace()
    pace.key(0.0)
    pace.key(0.01)
    assert (pace.gap_ms, pace.answer_ms) == (150, None)
