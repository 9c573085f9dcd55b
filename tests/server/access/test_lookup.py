"""Whose a token is, with the real database."""

from __future__ import annotations

import time
from collections.abc import Iterator
from types import SimpleNamespace

import pytest
from sqlalchemy import Engine, event
from sqlalchemy.exc import OperationalError

from homespun_core.errors import ServiceError
from homespun_server.access import lookup as lookups
from homespun_server.access import reading
from homespun_server.access.changing import changing
from homespun_server.access.decisions import Guarded
from homespun_server.access.lookup import _MAX_STRANGERS, Lookup
from homespun_server.access.records import Grant
from tests.server.access.conftest import ADMIN

SHOP = Guarded(id="shop-1", name="shop", groups=frozenset({"shop-developers"}))
WEB = Guarded(id="web-2", name="web")


@pytest.fixture
def lookup(engine: Engine) -> Iterator[Lookup]:
    repositories = (SHOP, WEB)
    made = Lookup(engine, lambda: repositories, poll_s=0.05)
    made.start()
    yield made
    made.close()


def _token(engine: Engine, name: str = "ada", expires: float | None = None) -> str:
    with changing(engine, ADMIN) as change:
        user = reading.user_named(change.connection, name) or change.add_user(name)
        return change.add_token(user, "laptop", expires=expires).text


def _until_seen(lookup: Lookup, engine: Engine) -> None:
    """What was changed last is known to the lookup, which nobody told."""
    with engine.connect() as connection:
        version = reading.version(connection)
    deadline = time.monotonic() + 5
    while lookup._version < version:
        assert time.monotonic() < deadline
        time.sleep(0.01)


async def test_a_token_is_its_users(lookup: Lookup, engine: Engine) -> None:
    assert not lookup.has_accounts
    token = _token(engine)
    _until_seen(lookup, engine)
    assert lookup.has_accounts
    found = await lookup.bearer(token)
    assert found is not None
    assert (found.name, found.role, found.scopes, found.readable) == ("ada", "developer", {"complete"}, frozenset())


async def test_other_texts_are_nobodys(lookup: Lookup, engine: Engine) -> None:
    token = _token(engine)
    id = token.split("_")[1]
    for other in (
        "",
        "homespun",
        "homespun__",
        f"homespun_{id}_",
        f"homespun_{id}_x",
        token[:-1],
        f"{token}x",
        "é" * 50,
    ):
        assert await lookup.bearer(other) is None
    assert await lookup.bearer(token) is not None


async def test_guesses_push_nobody_out_who_is_known(lookup: Lookup, engine: Engine) -> None:
    token = _token(engine)
    _until_seen(lookup, engine)
    await lookup.bearer(token)
    id = token.split("_")[1]
    for number in range(_MAX_STRANGERS + 5):
        assert await lookup.bearer(f"homespun_{id}_{number}") is None
    assert len(lookup._strangers) == _MAX_STRANGERS and len(lookup._known) == 1


async def test_a_known_token_costs_no_query(lookup: Lookup, engine: Engine) -> None:
    token = _token(engine)
    await lookup.bearer(token)
    _until_seen(lookup, engine)
    await lookup.bearer(token)
    queries: list[str] = []
    event.listen(engine, "before_cursor_execute", lambda c, cur, statement, *rest: queries.append(statement))
    lookup.close()  # nobody else asks
    queries.clear()
    for _ in range(100):
        assert await lookup.bearer(token) is not None
    assert queries == []


async def test_what_another_process_takes_away_is_gone_for_all_tokens(lookup: Lookup, engine: Engine) -> None:
    kept, revoked = _token(engine), _token(engine)
    for token in (kept, revoked):
        assert await lookup.bearer(token) is not None
    with changing(engine, ADMIN) as change:
        assert change.revoke_token(revoked.split("_")[1])
    _until_seen(lookup, engine)
    assert await lookup.bearer(revoked) is None and await lookup.bearer(kept) is not None
    with changing(engine, ADMIN) as change:
        user = reading.user_named(change.connection, "ada")
        assert user is not None
        change.add_user("root", role="admin")
        change.set_active(user, False)
    _until_seen(lookup, engine)
    assert await lookup.bearer(kept) is None


def _later(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """The lookup's clock on the wall."""
    clock = SimpleNamespace(time=lambda: time.time() + seconds, monotonic=time.monotonic)
    monkeypatch.setattr(lookups, "time", clock)


async def test_a_token_ends_when_it_says(lookup: Lookup, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    assert await lookup.bearer(_token(engine, expires=time.time() - 1)) is None
    soon = _token(engine, expires=time.time() + 60)
    assert await lookup.bearer(soon) is not None
    _later(monkeypatch, 61)
    assert await lookup.bearer(soon) is None


async def test_teams_and_grants_say_what_may_be_read(lookup: Lookup, engine: Engine) -> None:
    token = _token(engine)

    async def readable() -> set[str]:
        _until_seen(lookup, engine)
        found = await lookup.bearer(token)
        assert found is not None and found.readable is not None
        return set(found.readable)

    assert await readable() == set()
    with changing(engine, ADMIN) as change:
        user = reading.user_named(change.connection, "ada")
        assert user is not None
        change.set_teams(user, ["shop-developers"], "oidc")
    assert await readable() == {"shop-1"}
    with changing(engine, ADMIN) as change:
        change.grant(user, "we?")
    assert await readable() == {"shop-1", "web-2"}
    with changing(engine, ADMIN) as change:
        change.set_teams(user, [], "oidc")
        grants = reading.person(change.connection, user.id)
        assert grants is not None and isinstance(grants.grants[0], Grant)
    assert await readable() == {"web-2"}


async def test_a_grant_ends_when_it_says_though_nothing_is_changed(
    lookup: Lookup, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = _token(engine)
    with changing(engine, ADMIN) as change:
        user = reading.user_named(change.connection, "ada")
        assert user is not None
        change.grant(user, "web", source="forge", expires=time.time() + 60)
    _until_seen(lookup, engine)
    before = await lookup.bearer(token)
    _later(monkeypatch, 61)
    after = await lookup.bearer(token)
    assert before is not None and before.readable == frozenset({"web-2"})
    assert after is not None and after.readable == frozenset()


async def test_without_a_database_the_known_go_on_for_a_while_and_others_are_told_to_wait(
    engine: Engine,
) -> None:
    lookup = Lookup(engine, lambda: (), poll_s=0.02)
    known, unknown = _token(engine), _token(engine, "bob")
    lookup.look()
    assert await lookup.bearer(known) is not None

    def broken(*args: object) -> None:
        raise OperationalError("connect", None, OSError("the network is gone"))

    engine.dispose()
    event.listen(engine, "do_connect", broken)
    assert await lookup.bearer(known) is not None
    with pytest.raises(ServiceError, match="try again"):
        await lookup.bearer(unknown)
    lookup._trust_s = 0.0  # as if it had lasted so long
    with pytest.raises(ServiceError, match="try again"):
        await lookup.bearer(known)
    event.remove(engine, "do_connect", broken)
    lookup._trust_s = 60.0
    lookup.look()
    assert await lookup.bearer(known) is not None and await lookup.bearer(unknown) is not None
    lookup.close()
