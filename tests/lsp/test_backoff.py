from hypothesis import given
from hypothesis import strategies as st

from homespun_lsp.backoff import Backoff


def test_the_wait_doubles_up_to_a_minute_and_success_ends_it() -> None:
    backoff = Backoff(clock=lambda: 100.0, chance=lambda: 0.5)
    waits = []
    for _ in range(9):
        backoff.fail()
        waits.append(backoff.wait_s)
    assert waits == [1, 2, 4, 8, 16, 32, 60, 60, 60]
    backoff.succeed()
    assert backoff.wait_s == 0


def test_before_the_first_failure_there_is_no_wait() -> None:
    assert Backoff().wait_s == 0


@given(st.integers(1, 2_000), st.floats(0, 1), st.floats(0, 1e9))
def test_the_wait_is_bounded_whatever_the_server_asks_for(failures: int, chance: float, asked_s: float) -> None:
    backoff = Backoff(clock=lambda: 0.0, chance=lambda: chance)
    for _ in range(failures):
        backoff.fail(asked_s)
    assert min(asked_s, 60) <= backoff.wait_s <= 75


def test_an_office_does_not_come_back_in_one_moment() -> None:
    waits = []
    for chance in (0.0, 0.3, 1.0):
        backoff = Backoff(clock=lambda: 0.0, chance=lambda chance=chance: chance)  # type: ignore[misc]
        backoff.fail()
        waits.append(backoff.wait_s)
    assert waits == sorted(set(waits)) and waits[0] == 0.75 and waits[-1] == 1.25
