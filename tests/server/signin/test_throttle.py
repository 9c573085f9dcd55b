from __future__ import annotations

from homespun_server.signin.throttle import Throttle


class _Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_key_may_so_often_in_a_window() -> None:
    clock = _Clock()
    throttle = Throttle(2, 60, clock)
    assert [throttle.allows("a") for _ in range(3)] == [True, True, False]
    assert throttle.allows("b")
    clock.now = 60
    assert throttle.allows("a")


def test_all_keys_together_may_thirty_times_as_often() -> None:
    throttle = Throttle(2, 60, _Clock())
    assert sum(throttle.allows(str(number)) for number in range(100)) == 60


def test_what_is_refused_costs_others_nothing() -> None:
    throttle = Throttle(2, 60, _Clock())
    assert sum(throttle.allows("greedy") for _ in range(1_000)) == 2
    assert throttle.allows("other")


def test_memory_is_bounded() -> None:
    throttle = Throttle(10_000, 60, _Clock())
    assert all(throttle.allows(str(number)) for number in range(20_000))
    assert len(throttle._used) <= 10_000
