"""Who may do what and read what, case by case."""

from __future__ import annotations

from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homespun_server.access.decisions import Action, Guarded, may, readable_by, verdict_on
from homespun_server.access.principal import ALL_SCOPES, BREAK_GLASS, LOCAL, NOBODY, Principal, Role, Scope
from homespun_server.access.records import Grant, Person, User

NOW = 1_000.0
ACTIONS: tuple[Action, ...] = get_args(Action)
ROLES: tuple[Role, ...] = get_args(Role)
SHOP = Guarded(
    id="shop-1a2b", name="shop", addresses=frozenset({"git.example.com/team/shop"}), groups=frozenset({"shop", "ops"})
)
FREE = Guarded(id="free-3c4d", name="free")


def principal(role: Role, scopes: frozenset[Scope] = ALL_SCOPES) -> Principal:
    return Principal(user="u1", name="ada", role=role, scopes=scopes, readable=frozenset())


def person(
    *, role: Role = "developer", active: bool = True, teams: tuple[str, ...] = (), grants: tuple[Grant, ...] = ()
) -> Person:
    user = User(id="u1", name="ada", email=None, role=role, active=active, created=0.0)
    return Person(user=user, teams=frozenset(teams), grants=grants)


def grant(pattern: str, *, subject: str = "user:ada", expires: float | None = None) -> Grant:
    return Grant(id="g1", subject=subject, pattern=pattern, source="admin", created=0.0, expires=expires)


@pytest.mark.parametrize(
    ("role", "allowed"),
    [
        ("developer", {"complete", "read-index"}),
        ("repo-admin", {"complete", "read-index", "manage-repositories"}),
        ("auditor", {"read-metrics", "read-usage", "read-audit"}),
        ("admin", set(ACTIONS)),
    ],
)
def test_a_role_may_just_this(role: Role, allowed: set[str]) -> None:
    assert {action for action in ACTIONS if may(principal(role), action)} == allowed


@pytest.mark.parametrize(
    ("scope", "allowed"),
    [
        ("complete", {"complete"}),
        ("index:read", {"read-index", "read-metrics"}),
        ("admin", set(ACTIONS) - {"complete", "read-index", "read-metrics"}),
    ],
)
def test_a_token_may_do_no_more_than_its_scopes(scope: Scope, allowed: set[str]) -> None:
    assert {action for action in ACTIONS if may(principal("admin", frozenset([scope])), action)} == allowed


def test_who_shows_nothing_may_nothing_and_who_has_the_machine_everything() -> None:
    assert not any(may(NOBODY, action) for action in ACTIONS) and NOBODY.readable == frozenset()
    assert all(may(who, action) and who.readable is None for who in (LOCAL, BREAK_GLASS) for action in ACTIONS)


@pytest.mark.parametrize(
    ("who", "what", "allowed", "why"),
    [
        (person(), SHOP, False, "none of its groups"),
        (person(teams=("ops",)), SHOP, True, "ops"),
        (person(teams=("Ops", "sho")), SHOP, False, "none of its groups"),
        (person(teams=("shop",), active=False), SHOP, False, "deactivated"),
        (person(role="admin"), SHOP, True, "admin"),
        (person(role="admin", active=False), SHOP, False, "deactivated"),
        (person(role="auditor", teams=("shop",), grants=(grant("*"),)), SHOP, False, "no code"),
        (person(role="repo-admin"), SHOP, False, "none of its groups"),
        (person(grants=(grant("shop"),)), SHOP, True, "grant 'shop'"),
        (person(grants=(grant("shop-1a2b"),)), SHOP, True, "grant"),
        (person(grants=(grant("git.example.com/team/*"),)), SHOP, True, "grant"),
        (person(grants=(grant("git.example.com/other/*"),)), SHOP, False, "none of its groups"),
        (person(grants=(grant("SHOP"),)), SHOP, False, "none of its groups"),
        (person(grants=(grant("sho"),)), SHOP, False, "none of its groups"),
        (person(grants=(grant("shop", expires=NOW + 1),)), SHOP, True, "grant"),
        (person(grants=(grant("shop", expires=NOW),)), SHOP, False, "none of its groups"),
        (person(), FREE, False, "default_access"),
        (person(), Guarded(id="new-1", groups=None), False, "without an index"),
        (person(grants=(grant("new-1"),)), Guarded(id="new-1", groups=None), True, "grant"),
    ],
)
def test_reading(who: Person, what: Guarded, allowed: bool, why: str) -> None:
    found = verdict_on(who, what, False, NOW)
    assert found.allowed is allowed and why in found.why


def test_everyone_may_read_what_has_no_groups_where_the_settings_say_so() -> None:
    assert verdict_on(person(), FREE, True, NOW).allowed
    assert not verdict_on(person(), SHOP, True, NOW).allowed
    assert not verdict_on(person(), Guarded(id="x", groups=None), True, NOW).allowed


def test_uncommitted_work_is_for_whoever_is_named_for_it_alone() -> None:
    work = Guarded(id="shop-1a2b", name="shop", groups=frozenset({"shop"}), is_uncommitted=True)
    for who in (
        person(teams=("shop",)),
        person(grants=(grant("*"),)),
        person(grants=(grant("shop-1a2b", subject="team:shop"),)),
    ):
        assert not verdict_on(who, work, True, NOW).allowed
    assert verdict_on(person(grants=(grant("shop-1a2b"),)), work, False, NOW).allowed


@pytest.mark.parametrize(
    ("groups", "teams", "allowed"),
    [
        (None, ("shop",), False),
        (frozenset(), (), True),
        (frozenset({"shop"}), ("shop",), True),
        (frozenset({"shop"}), ("web",), False),
    ],
)
def test_a_shared_adapter_is_for_its_groups(
    groups: frozenset[str] | None, teams: tuple[str, ...], allowed: bool
) -> None:
    adapter = Guarded(id="@team", groups=groups, is_adapter=True)
    assert verdict_on(person(teams=teams, grants=(grant("*"),)), adapter, True, NOW).allowed is allowed


_names = st.sampled_from(["shop", "web", "ops", "shop-1", "web-2"])
_guarded = st.builds(
    Guarded,
    id=_names,
    name=_names,
    groups=st.none() | st.frozensets(_names, max_size=2),
    is_uncommitted=st.booleans(),
    is_adapter=st.booleans(),
)
_persons = st.builds(
    person,
    role=st.sampled_from(["developer", "repo-admin", "auditor"]),
    active=st.booleans(),
    teams=st.lists(_names, max_size=2).map(tuple),
    grants=st.lists(_names.map(grant), max_size=2).map(tuple),
)


@given(who=_persons, what=st.lists(_guarded, max_size=4), is_open=st.booleans())
def test_taking_rights_away_never_opens_anything(who: Person, what: list[Guarded], is_open: bool) -> None:
    before = readable_by(who, what, is_open, NOW)
    assert before is not None
    for less in (
        Person(user=who.user, teams=frozenset(), grants=who.grants),
        Person(user=who.user, teams=who.teams, grants=()),
    ):
        after = readable_by(less, what, is_open, NOW)
        assert after is not None and after <= before
    assert readable_by(who, what, False, NOW) <= before  # type: ignore[operator]  # admins alone have None
