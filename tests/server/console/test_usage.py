"""The database counts what `feedback.store` counts in Python."""

from __future__ import annotations

import random
import time
from collections import Counter, defaultdict
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import get_args

from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Engine, select, update

from homespun_core.outcomes import Outcome
from homespun_server.access.audit import Actor
from homespun_server.access.changing import changing
from homespun_server.console import usage
from homespun_server.console.usage import Wanted
from homespun_server.database.opening import open_database
from homespun_server.feedback import sums
from homespun_server.feedback.facts import CompletionFact, Event, EventKind, Fact
from homespun_server.feedback.store import FeedbackStore
from homespun_server.feedback.summary import summary
from homespun_server.feedback.sums import DAY_S
from homespun_server.feedback.tables import completions, summed_days, usage_days

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
    cells = usage.team_cells(database, Wanted(since=0, until=UNTIL))
    found = usage.added_up((cell.team, cell.summary) for cell in cells)
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


def test_sums_follow_whatever_changes_afterwards(database: Engine) -> None:
    """Each step is asked twice: of sums made just now, and of those that stood."""
    store, chance = remembered(database, 300), random.Random(11)
    wanted = [Wanted(since=0.5 * DAY_S, until=UNTIL), Wanted(since=0, until=39.7 * DAY_S, user="ann")]
    wanted.append(Wanted(since=0, until=UNTIL, repositories=frozenset(("shop",))))

    def is_right() -> bool:
        outcomes = store.outcomes(None, 0, UNTIL)
        return all(
            usage.total(usage.cells(database, one)) == summary([o for o in outcomes if within(o, one)])
            and sum(usage.latencies(database, one).values(), Counter[int]()).total()
            == len([o for o in outcomes if within(o, one)])
            for one in wanted
            for _ in range(2)
        )

    assert is_right()
    for _ in range(5):  # late news of old completions, and completions that are written late
        at = chance.random() * UNTIL
        late = CompletionFact(
            id=f"late{at}",
            time=at,
            user="ann",
            repository="shop",
            language="go",
            adapter=None,
            characters=9,
            first_line=9,
            latency_ms=5.0,
        )
        told = Event(completion=f"c{chance.randrange(300)}", kind="kept", time=UNTIL, characters=40)
        store.write([late, told])
        assert is_right()
    store.forget_user("bob")
    assert is_right()
    with database.connect() as connection:
        assert "bob" not in {row.user for row in connection.execute(select(usage_days))}


def within(outcome: Outcome, wanted: Wanted) -> bool:
    assert wanted.until is not None
    return (
        wanted.since <= outcome.time < wanted.until
        and wanted.user in (None, outcome.user)
        and (wanted.repositories is None or outcome.repository in wanted.repositories)
    )


def test_a_day_is_summed_once_and_todays_never(database: Engine) -> None:
    store = remembered(database, 100)
    first = store.sum_up()
    assert first > 30 and store.sum_up() == 0
    now = CompletionFact(
        id="now",
        time=time.time(),
        user="ann",
        repository=None,
        language=None,
        adapter=None,
        characters=1,
        first_line=1,
        latency_ms=1.0,
    )
    store.write([now, Event(completion="c1", kind="kept", time=UNTIL, characters=1)])
    usage.cells(database, Wanted(since=0, until=UNTIL))
    with database.connect() as connection:
        days = set(connection.execute(select(summed_days.c.day)).scalars())
    assert len(days) >= first and int(now.time // DAY_S) not in days


def test_two_who_sum_up_beside_a_writer_agree(database: Engine) -> None:
    """Each with a pool of its own, as other servers would have."""
    store = remembered(database, 200)
    url = database.url.render_as_string(hide_password=False)
    others = [open_database(url, Path("unused")) for _ in range(3)]

    def write() -> None:
        mine = FeedbackStore(others[2])
        for number in range(40):
            mine.write([Event(completion=f"c{number}", kind="accepted", time=UNTIL, characters=40)])

    works = [lambda: sums.sum_up(others[0], 0, UNTIL), lambda: sums.sum_up(others[1], 0, UNTIL), write]
    with ThreadPoolExecutor(3) as pool:
        for done in [pool.submit(work) for work in works]:
            done.result()
    found = usage.cells(database, Wanted(since=0, until=UNTIL))
    assert usage.total(found) == summary(store.outcomes(None, 0, UNTIL))
    for other in others:
        other.dispose()


@given(days=st.sets(st.integers(0, 9)), since=st.floats(0, 9 * DAY_S), length=st.floats(1, 5 * DAY_S))
def test_days_and_what_is_outside_of_them_are_all_of_a_time(days: set[int], since: float, length: float) -> None:
    until = since + length
    whole = {day for day in days if since <= day * DAY_S and (day + 1) * DAY_S <= until}
    found = [*sums.outside(whole, since, until), *((day * DAY_S, (day + 1) * DAY_S) for day in whole)]
    edges = sorted(found)
    assert edges[0][0] == since and edges[-1][1] == until
    assert all(one[1] == other[0] for one, other in pairwise(edges))
