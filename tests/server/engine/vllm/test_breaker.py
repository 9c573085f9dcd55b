from __future__ import annotations

from homespun_server.engine.vllm.breaker import Breaker


def _opened(now: float = 100.0) -> Breaker:
    return Breaker().failed(now).failed(now).failed(now)


def test_it_opens_after_three_failures_in_a_row_and_a_success_forgets_them() -> None:
    two = Breaker().failed(100.0).failed(100.0)
    assert two.state(100.0) == "closed" and two.allows(100.0)
    assert two.succeeded().failed(100.0).failed(100.0).state(100.0) == "closed"
    assert two.failed(100.0).state(100.0) == "open" and not two.failed(100.0).allows(100.0)


def test_after_a_wait_one_request_is_the_trial() -> None:
    opened = _opened(100.0)
    assert opened.state(100.9) == "open" and opened.state(101.0) == "half-open"
    trying = opened.began(101.0)
    assert opened.allows(101.0) and not trying.allows(101.5)
    assert trying.succeeded() == Breaker()


def test_a_failed_trial_doubles_the_wait_up_to_half_a_minute() -> None:
    breaker, now, waits = _opened(100.0), 100.0, list[float]()
    for _ in range(7):
        assert breaker.retry_at is not None
        waits.append(breaker.retry_at - now)
        now = breaker.retry_at
        breaker = breaker.began(now).failed(now)
    assert waits == [1, 2, 4, 8, 16, 30, 30]


def test_a_trial_that_ends_by_itself_lets_the_next_one_try() -> None:
    trying = _opened(100.0).began(101.0)
    assert trying.abandoned().allows(101.0)


def test_failures_of_requests_that_began_before_it_opened_dont_prolong_the_wait() -> None:
    assert _opened(100.0).failed(100.5).failed(100.6) == _opened(100.0)


def test_a_closed_one_is_never_trying() -> None:
    assert Breaker().began(100.0) == Breaker() == Breaker().abandoned()
