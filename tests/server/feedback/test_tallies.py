"""The database counts by user what one can count of the outcomes."""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import replace
from typing import Any, get_args

import pytest
from sqlalchemy import Engine, event

from homespun_core.outcomes import Outcome
from homespun_server.feedback.facts import CompletionFact, Event, EventKind, Fact
from homespun_server.feedback.store import FeedbackStore
from homespun_server.feedback.tallies import Arm, Tally, p95_ms, total
from tests.arms import arm

ADAPTERS = ("v1", "v2", "v3", None)
MARKS = ("0a/plain", "0a/five", "9c/five", None)
UNTIL = 1_000.0


def facts(chance: random.Random, number: int) -> Iterable[Fact]:
    for n in range(number):
        yield CompletionFact(
            id=f"c{n}",
            time=chance.random() * 2 * UNTIL,
            user=chance.choice(("ann", "bob", "eve", "zoë", "")),
            repository=chance.choice(("shop", "web", "loom", None)),
            language=None,
            adapter=chance.choice(ADAPTERS),
            characters=40,
            first_line=9,
            latency_ms=chance.lognormvariate(3, 1),
            verdict=chance.choice((None, "show", "hide", "would_hide")),
            prompt_version=chance.choice(MARKS),
        )
        for kind in get_args(EventKind):
            if chance.random() < 0.4:
                yield Event(completion=f"c{n}", kind=kind, time=UNTIL, characters=chance.randint(0, 40))


def alike(arms: Iterable[Arm]) -> list[Arm]:
    """Latencies have no order."""
    return [
        {user: Tally(summary=t.summary, latencies_ms=sorted(t.latencies_ms)) for user, t in arm.items()} for arm in arms
    ]


@pytest.fixture
def store(database: Engine) -> FeedbackStore:
    made = FeedbackStore(database)
    made.write(list(facts(random.Random(3), 600)))
    return made


def test_arms_are_those_of_the_outcomes(store: FeedbackStore) -> None:
    def expected(outcomes: Iterable[Outcome], adapter: str | None) -> Arm:
        return arm(o for o in outcomes if o.adapter == adapter and o.repository in ("shop", "web"))

    for adapters in (("v1", "v2"), (None, "v3"), ("v4",)):
        found = store.by_adapter(adapters, ["shop", "web"], 100.0, UNTIL)
        outcomes = store.outcomes(None, 100.0, UNTIL)
        assert alike(found[name] for name in adapters) == alike(expected(outcomes, name) for name in adapters)
    found = store.by_prompt(["0a/plain", "0a/five"])
    every = store.outcomes(None, 0.0)
    assert found.keys() == {"0a/plain", "0a/five"}
    assert alike(found.values()) == alike(arm(o for o in every if o.prompt_version == mark) for mark in found)


def test_the_outcomes_of_a_trial_are_read_without_those_of_others(database: Engine) -> None:
    """`homespun prompts` went through every completion there was."""
    asked: list[tuple[str, Any]] = []

    def note(connection: object, cursor: object, statement: str, parameters: Any, *_: object) -> None:
        asked.append((statement, parameters))

    others = [replace(f, prompt_version=None) for f in facts(random.Random(3), 600) if isinstance(f, CompletionFact)]
    store = FeedbackStore(database)
    store.write([*others, *(replace(f, id=f"tried {f.id}", prompt_version="0a/five") for f in others[:20])])
    event.listen(database, "before_cursor_execute", note)
    store.by_prompt(["0a/plain", "0a/five"])
    event.remove(database, "before_cursor_execute", note)
    of_completions = [(statement, values) for statement, values in asked if "prompt_version" in statement]
    assert len(of_completions) == 2
    with database.connect() as connection:
        is_postgresql = connection.dialect.name == "postgresql"
        if is_postgresql:
            connection.exec_driver_sql("ANALYZE completions")
            connection.exec_driver_sql("SET LOCAL enable_seqscan = off")  # of so few, none is as fast
        for statement, values in of_completions:
            how = connection.exec_driver_sql(f"EXPLAIN {'' if is_postgresql else 'QUERY PLAN '}{statement}", values)
            assert "ix_completions_prompt_version_time" in "\n".join(map(str, how))


def test_whoever_does_not_say_who_they_are_counts_for_no_arm(store: FeedbackStore) -> None:
    assert any(not o.user for o in store.outcomes("shop", 0.0))
    assert all("" not in found for found in store.by_adapter(ADAPTERS, ["shop"], 0.0).values())


def test_without_repositories_or_outcomes_arms_are_empty(store: FeedbackStore) -> None:
    assert store.by_adapter(["v1", None], [], 0.0) == {"v1": {}, None: {}}
    (nobody,) = store.by_adapter(["v1"], ["shop"], 9 * UNTIL).values()
    assert total(nobody).opportunities == 0 and p95_ms(nobody) is None
