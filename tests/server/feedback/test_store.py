"""What became of completions: written once, read as outcomes, forgotten on demand."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from homespun_core.errors import ConfigError, StorageError
from homespun_server.database.opening import open_database
from homespun_server.database.schema import metadata
from homespun_server.feedback.facts import CompletionFact, Event, EventKind
from homespun_server.feedback.recorder import Recorder
from homespun_server.feedback.store import FeedbackStore, summary


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
def store(tmp_path: Path) -> Iterator[FeedbackStore]:
    made = FeedbackStore(open_database("", tmp_path / "homespun.db"))
    yield made
    made.close()


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


def test_a_user_is_forgotten_with_everything_said_of_the_completions(store: FeedbackStore, tmp_path: Path) -> None:
    store.write([fact("a"), fact("b", user="bob"), told("a", "accepted"), told("b", "shown", 0)])
    assert store.forget_user("ann") == 1
    assert [o.completion for o in store.outcomes(None, 0)] == ["b"]
    with sqlite3.connect(tmp_path / "homespun.db") as connection:
        assert connection.execute("select completion from events").fetchall() == [("b",)]


def test_old_completions_are_forgotten(store: FeedbackStore) -> None:
    store.write([fact("a", at=10), fact("b", at=30)])
    assert store.forget_before(20) == 1
    assert [o.completion for o in store.outcomes(None, 0)] == ["b"]


def test_the_migrations_make_the_tables_that_the_code_uses(tmp_path: Path) -> None:
    for _ in range(2):  # the second time there is nothing to do
        engine = open_database("", tmp_path / "a" / "homespun.db")
        with engine.connect() as connection:
            assert compare_metadata(MigrationContext.configure(connection), metadata) == []
            assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
        engine.dispose()


def test_a_database_that_cannot_be_opened_is_one_line_without_the_password(tmp_path: Path) -> None:
    (tmp_path / "homespun.db").write_bytes(b"this is no database, whatever its name says" * 100)
    with pytest.raises(StorageError, match="database_url"):
        open_database("", tmp_path / "homespun.db")
    for url in ("nonsense", "cheese://ann:secret@host/name", "sqlite://ann:secret@host:port/name"):
        with pytest.raises(ConfigError, match="database_url") as caught:
            open_database(url, tmp_path / "x.db")
        assert "secret" not in str(caught.value)


def test_the_database_of_a_newer_version_is_one_line(tmp_path: Path) -> None:
    engine = open_database("", tmp_path / "homespun.db")
    with engine.begin() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    engine.dispose()
    with pytest.raises(StorageError, match="database_url"):
        open_database("", tmp_path / "homespun.db")


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
