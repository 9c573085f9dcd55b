"""The database counts what `feedback.store` counts in Python."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from typing import get_args

from sqlalchemy import Engine, update

from homespun_core.outcomes import Outcome
from homespun_server.access.audit import Actor
from homespun_server.access.changing import changing
from homespun_server.console import usage
from homespun_server.console.usage import DAY_S, Wanted
from homespun_server.feedback.facts import CompletionFact, Event, EventKind, Fact
from homespun_server.feedback.store import FeedbackStore, summary
from homespun_server.feedback.tables import completions

UNTIL = 40.0 * DAY_S


def remembered(database: Engine, number: int) -> FeedbackStore:
    chance, facts = random.Random(3), list[Fact]()
    for n in range(number):
        id, at = f"c{n}", chance.random() * UNTIL
        facts.append(
            CompletionFact(
                id=id,
                time=at,
                user=chance.choice(("ann", "bob")),
                repository=chance.choice(("shop", "web", None)),
                language=chance.choice(("go", "python")),
                adapter=None,
                characters=40,
                first_line=9,
                latency_ms=chance.choice((3.2, 14.7, 80.9)),
                verdict=chance.choice((None, "hide", "would_hide")),
                editor=chance.choice(("Neovim", None)),
            )
        )
        facts += [
            Event(completion=id, kind=kind, time=at, characters=chance.randint(0, 40))
            for kind in get_args(EventKind)
            if chance.random() < 0.4
        ]
    store = FeedbackStore(database)
    store.write(facts)
    return store


def test_sums_are_those_of_the_outcomes(database: Engine) -> None:
    store = remembered(database, 400)
    outcomes = store.outcomes(None, 0, UNTIL)
    found = usage.cells(database, Wanted(since=0, until=UNTIL))
    assert usage.total(found) == summary(outcomes)
    by_language = defaultdict[str | None, list[Outcome]](list)
    for outcome in outcomes:
        by_language[outcome.language].append(outcome)
    expected = {language: summary(some) for language, some in by_language.items()}
    assert usage.grouped(found, lambda cell: cell.language) == expected
    assert usage.grouped(found, lambda cell: cell.editor).keys() == {"Neovim", None}
    # A day begins at midnight to the second: a completion of its last half second may count for the next.
    assert usage.grouped(found, lambda cell: cell.day).keys() <= {*range(41)}


def test_a_team_is_what_its_members_did(database: Engine) -> None:
    store = remembered(database, 100)
    with changing(database, Actor(id="local", origin="cli")) as change:
        ann, bob = (change.add_user(name) for name in ("ann", "bob"))
        for team, people in (("weavers", [ann]), ("all", [ann, bob])):
            made = change.add_team(team)
            for user in people:
                for source in ("admin", "oidc"):
                    change.add_member(made, user, source)
        for user in (ann, bob):
            change.connection.execute(update(completions).where(completions.c.user == user.name).values(user=user.id))
    found = usage.by_team(database, Wanted(since=0, until=UNTIL))
    outcomes = store.outcomes(None, 0, UNTIL)
    assert found == {"all": summary(outcomes), "weavers": summary([o for o in outcomes if o.user == ann.id])}


def test_only_what_is_wanted_counts(database: Engine) -> None:
    store = remembered(database, 200)
    every = store.outcomes(None, 0, UNTIL)
    mine = Wanted(since=DAY_S, until=UNTIL, user="ann", repositories=frozenset(("shop",)))
    expected = [o for o in every if o.user == "ann" and o.repository == "shop" and o.time >= DAY_S]
    assert usage.total(usage.cells(database, mine)) == summary(expected)
    assert usage.cells(database, Wanted(since=0, until=UNTIL, repositories=frozenset())) == []
    assert usage.total([]).opportunities == 0


def test_latencies_are_counted_by_day(database: Engine) -> None:
    remembered(database, 200)
    found = usage.latencies(database, Wanted(since=0, until=UNTIL))
    together = sum(found.values(), Counter[int]())
    assert together.total() == 200 and len(together) == 3
    # The databases round differently, by less than a millisecond.
    assert all(abs(ms - exact) < 1 for ms, exact in zip(sorted(together), (3.2, 14.7, 80.9), strict=True))


def test_a_percentile_is_a_value_that_was_measured() -> None:
    counts = Counter({10: 90, 20: 9, 500: 1})
    assert [usage.percentile(counts, share) for share in (0.5, 0.9, 0.95, 1.0)] == [10, 10, 20, 500]
    assert usage.percentile(Counter(), 0.5) is None
