"""What became of completions: written once, read as outcomes, forgotten on demand."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import Engine, select

from homespun_server.database.opening import open_database
from homespun_server.feedback.facts import CompletionFact, Event, EventKind, Fact
from homespun_server.feedback.kept import Kept
from homespun_server.feedback.recorder import Recorder
from homespun_server.feedback.store import FeedbackStore, summary
from homespun_server.feedback.tables import events


def fact(
    id: str, *, user: str = "ann", repository: str = "shop", characters: int = 20, at: float = 1.0
) -> CompletionFact:
    return CompletionFact(
        id=id,
        time=at,
        user=user,
        repository=repository,
        language="python",
        adapter="v1",
        characters=20,
        first_line=8,
        latency_ms=12.5,
        features={"mean_logprob": -0.5},
    )


def told(id: str, kind: EventKind, characters: int | None = None, *, is_line: bool = False) -> Event:
    return Event(completion=id, kind=kind, time=2.0, characters=characters, is_line=is_line)


@pytest.fixture
def store(database: Engine) -> FeedbackStore:
    return FeedbackStore(database)


def test_a_completion_and_its_events_are_one_outcome(store: FeedbackStore) -> None:
    store.write([fact("a"), told("a", "shown", 0), told("a", "accepted", 12), told("a", "kept", 7)])
    (outcome,) = store.outcomes("shop", 0)
    assert (outcome.completion, outcome.user, outcome.adapter, outcome.latency_ms) == ("a", "ann", "v1", 12.5)
    assert outcome.is_shown and outcome.is_accepted
    assert (outcome.accepted_characters, outcome.kept_characters) == (12, 7)


def test_a_completion_nobody_spoke_of_is_an_opportunity_all_the_same(store: FeedbackStore) -> None:
    store.write([fact("a"), fact("b"), told("b", "accepted")])
    found = summary(store.outcomes(None, 0))
    assert (found.opportunities, found.shown, found.accepted, found.kept_characters) == (2, 1, 1, 20)
    assert found.kept_per_opportunity == 10


def test_the_same_facts_twice_are_one_and_the_larger_count_stands(store: FeedbackStore) -> None:
    for characters in (5, 12, 3):
        store.write([fact("a"), told("a", "accepted", characters)])
    (outcome,) = store.outcomes("shop", 0)
    assert outcome.accepted_characters == 12


def test_no_client_accepts_or_keeps_more_than_there_was(store: FeedbackStore) -> None:
    store.write([fact("a"), told("a", "accepted", 900), told("a", "kept", 999)])
    store.write([fact("b"), told("b", "accepted", is_line=True), told("b", "kept", 15)])
    assert [(o.accepted_characters, o.kept_characters) for o in store.outcomes("shop", 0)] == [(20, 20), (8, 8)]


def test_events_of_unknown_completions_are_left_out_and_counted(store: FeedbackStore) -> None:
    assert store.write([told("nobody", "accepted"), fact("a"), told("a", "shown", 0)]) == 1
    assert [o.completion for o in store.outcomes(None, 0)] == ["a"]


def test_outcomes_are_those_of_the_repository_and_time_that_were_asked_for(store: FeedbackStore) -> None:
    now = time.time()
    store.write([fact("old", at=now - 500), fact("other", repository="till", at=now - 100)])
    store.write([fact("a", at=now - 100), fact("may still change", at=now - 5)])
    assert [o.completion for o in store.outcomes("shop", now - 200)] == ["a"]
    assert [o.completion for o in store.outcomes("shop", now - 200, until=now)] == ["a", "may still change"]


def test_a_user_is_forgotten_with_everything_said_of_the_completions(store: FeedbackStore, database: Engine) -> None:
    store.write([fact("a"), fact("b", user="bob"), told("a", "accepted"), told("b", "shown", 0)])
    assert store.forget_user("ann") == 1
    assert [o.completion for o in store.outcomes(None, 0)] == ["b"]
    with database.connect() as connection:
        assert connection.execute(select(events.c.completion)).scalars().all() == ["b"]


def test_old_completions_are_forgotten(store: FeedbackStore) -> None:
    store.write([fact("a", at=10), fact("b", at=30)])
    assert store.forget_before(20) == 1
    assert [o.completion for o in store.outcomes(None, 0)] == ["b"]


def test_what_was_recorded_before_closing_is_written(tmp_path: Path) -> None:
    lost: list[tuple[str, int]] = []
    store = FeedbackStore(open_database("", tmp_path / "homespun.db"))
    recorder = Recorder(store, keep_days=1e5, on_lost=lambda reason, number: lost.append((reason, number)))
    for n in range(1_200):
        recorder.record(fact(str(n)))
    recorder.record(told("nobody", "shown", 0))
    recorder.close()
    again = FeedbackStore(open_database("", tmp_path / "homespun.db"))
    assert len(again.outcomes(None, 0)) == 1_200
    assert lost == [("unknown", 1)]
    again.close()


def test_what_was_made_ahead_counts_only_once_it_is_shown(tmp_path: Path) -> None:
    """Otherwise each suggestion would be two opportunities, one of which nobody saw."""
    store = FeedbackStore(open_database("", tmp_path / "homespun.db"))
    recorder = Recorder(store, keep_days=1e5, on_lost=lambda reason, number: None)
    for n in range(3_000):
        recorder.record(replace(fact(f"ahead-{n}"), is_ahead=True))
    recorder.record(fact("typed"))
    recorder.record(told("ahead-2999", "shown", 0))
    recorder.record(told("ahead-2999", "accepted", 2))
    recorder.record(told("ahead-3", "shown", 0))
    recorder.close()
    again = FeedbackStore(open_database("", tmp_path / "homespun.db"))
    found = summary(again.outcomes(None, 0))
    assert (found.opportunities, found.shown, found.accepted) == (2, 1, 1), "and of too many the oldest are dropped"
    again.close()


def test_a_failing_database_loses_facts_and_nothing_else(tmp_path: Path) -> None:
    lost: list[tuple[str, int]] = []
    engine = open_database("", tmp_path / "homespun.db")
    with engine.begin() as connection:
        connection.exec_driver_sql("DROP TABLE completions")
    recorder = Recorder(
        FeedbackStore(engine), keep_days=9, on_lost=lambda reason, number: lost.append((reason, number))
    )
    recorder.record(fact("a"))
    recorder.close()
    assert lost == [("failed", 1)]


def test_what_fails_in_another_way_than_the_database_ends_the_recorder_neither(tmp_path: Path) -> None:
    """Its thread ended at the first error that wasn't the database's, and all that came later was lost uncounted."""
    lost: list[tuple[str, int]] = []
    is_short = True

    class Short(FeedbackStore):
        def write(self, facts: Sequence[Fact], kept: Sequence[Kept] = ()) -> int:
            if is_short:
                raise MemoryError
            return super().write(facts, kept)

    def fail(store: FeedbackStore) -> None:
        raise RuntimeError("out of everything")

    store = Short(open_database("", tmp_path / "homespun.db"))
    recorder = Recorder(store, keep_days=1e5, on_lost=lambda why, number: lost.append((why, number)), on_sweep=fail)
    recorder.record(fact("odd"))
    while not lost:
        time.sleep(0.01)
    is_short = False
    recorder.record(fact("later"))
    recorder.close()
    assert lost == [("failed", 1)]
    again = FeedbackStore(open_database("", tmp_path / "homespun.db"))
    assert len(again.outcomes(None, 0)) == 1
    again.close()
