from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from homespun_server.rollout.arms import is_in_share

USERS = [f"user {i}" for i in range(2_000)]


@given(user=st.text(), candidate=st.text(), percents=st.tuples(st.floats(0, 100), st.floats(0, 100)))
def test_a_growing_share_keeps_who_is_in_it(user: str, candidate: str, percents: tuple[float, float]) -> None:
    small, large = sorted(percents)
    assert is_in_share(user, candidate, large) or not is_in_share(user, candidate, small)


def test_the_share_is_what_was_asked_for() -> None:
    assert 160 <= sum(is_in_share(user, "v2", 10.0) for user in USERS) <= 240
    assert not any(is_in_share(user, "v2", 0.0) for user in USERS)
    assert all(is_in_share(user, "v2", 100.0) for user in USERS)


def test_another_candidate_is_tried_by_other_users() -> None:
    first = {user for user in USERS if is_in_share(user, "v2", 10.0)}
    second = {user for user in USERS if is_in_share(user, "v3", 10.0)}
    assert len(first & second) < 0.3 * len(first)
