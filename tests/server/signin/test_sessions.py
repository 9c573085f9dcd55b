"""How long a session lasts."""

from __future__ import annotations

import pytest
from sqlalchemy import Engine

from homespun_server.access import reading
from homespun_server.access.audit import Actor
from homespun_server.access.changing import changing
from homespun_server.signin.sessions import Sessions


class Clock:
    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def sessions(database: Engine, clock: Clock) -> Sessions:
    return Sessions(database, idle_s=600, longest_s=3_600, clock=clock)


@pytest.fixture
def ada(sessions: Sessions) -> str:
    with changing(sessions._engine, Actor(id="local", origin="cli")) as change:
        return change.add_user("ada").id


def test_a_session_ends_when_it_is_idle(sessions: Sessions, clock: Clock, ada: str) -> None:
    cookie = sessions.start(ada)
    clock.now += 599
    assert sessions.find(cookie) is not None
    clock.now += 599
    assert sessions.find(cookie) is not None
    clock.now += 600
    assert sessions.find(cookie) is None


def test_a_session_ends_however_much_it_is_used(sessions: Sessions, clock: Clock, ada: str) -> None:
    cookie = sessions.start(ada)
    for _ in range(11):
        clock.now += 300
        assert sessions.find(cookie) is not None
    clock.now += 300
    assert sessions.find(cookie) is None


def test_sessions_that_ended_are_not_kept(sessions: Sessions, clock: Clock, ada: str) -> None:
    for _ in range(3):
        sessions.start(ada)
        clock.now += 700
    with sessions._engine.connect() as connection:
        assert len(connection.exec_driver_sql("SELECT id FROM sessions").all()) == 1


def test_who_is_deactivated_is_signed_out_for_good(sessions: Sessions, ada: str) -> None:
    """Also for when they may come back."""
    cookies = [sessions.start(ada) for _ in range(2)]
    with changing(sessions._engine, Actor(id="local", origin="cli")) as change:
        user = reading.user_with(change.connection, ada)
        assert user is not None
        change.set_active(user, False)
        change.set_active(user, True)
    assert [sessions.find(cookie) for cookie in cookies] == [None, None]


def test_each_session_has_forms_of_its_own(sessions: Sessions, ada: str) -> None:
    one, other = (sessions.find(sessions.start(ada)) for _ in range(2))
    assert one is not None and other is not None and one.csrf != other.csrf and one.id != other.id


@pytest.mark.parametrize("cookie", ["", "guess", "ü", "\udcff", "x" * 5_000])
def test_what_is_no_cookie_of_ours_finds_nothing(sessions: Sessions, cookie: str) -> None:
    assert sessions.find(cookie) is None
