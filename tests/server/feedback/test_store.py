"""What became of completions: written once, read as outcomes, forgotten on demand."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import get_args

import pytest
from sqlalchemy import Engine, select

from homespun_core.config import Settings
from homespun_core.errors import ConfigError
from homespun_server.console import usage
from homespun_server.database.opening import open_database
from homespun_server.feedback.facts import CompletionFact, Event, EventKind, Fact
from homespun_server.feedback.kept import Kept
from homespun_server.feedback.recorder import Recorder
from homespun_server.feedback.retention import Retention, retention_of
from homespun_server.feedback.store import FeedbackStore
from homespun_server.feedback.summary import summary
from homespun_server.feedback.sums import DAY_S
from homespun_server.feedback.tables import completions, events, usage_days


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


def test_an_outcome_says_which_prompt_it_had_and_older_ones_had_none(store: FeedbackStore) -> None:
    tried = replace(fact("b"), prompt_version="0a1b/five")
    store.write([fact("a"), tried, replace(fact("c"), prompt_version="9c9c/five")])
    assert [o.prompt_version for o in store.outcomes(None, 0)] == [None, "0a1b/five", "9c9c/five"]


def test_to_learn_from_the_newest_that_were_shown_are_read_and_no_more(store: FeedbackStore) -> None:
    store.write([fact(f"c{n}", at=float(n)) for n in range(8)])
    store.write([told(f"c{n}", "accepted" if n % 4 else "shown") for n in (0, 2, 3, 4, 6)] + [told("c7", "dismissed")])
    for most, wanted in ((2, ["c4", "c6"]), (5, ["c0", "c2", "c3", "c4", "c6"]), (9, ["c0", "c2", "c3", "c4", "c6"])):
        found = list(store.remembered(0.0, most))
        assert [outcome.completion for outcome, _ in found] == wanted
        assert all(outcome.is_shown and features == {"mean_logprob": -0.5} for outcome, features in found)
    assert [outcome.completion for outcome, _ in store.remembered(4.0, 9)] == ["c4", "c6"]


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


KEPT = Retention(completions=1e5, events={}, sums=1e5)
KINDS: tuple[EventKind, ...] = get_args(EventKind)


def of_days(number: int) -> list[Fact]:
    """One completion at noon of each day, with all that can become of one."""
    facts = list[Fact]()
    for day in range(number):
        facts += [fact(f"c{day:02}", at=(day + 0.5) * DAY_S), *(told(f"c{day:02}", kind) for kind in KINDS)]
    return facts


def left(database: Engine) -> dict[str, list[int]]:
    """The days of completions, of each kind of event, and of sums."""
    with database.connect() as connection:
        found: dict[str, Sequence[str]] = {
            kind: connection.execute(select(events.c.completion).where(events.c.kind == kind)).scalars().all()
            for kind in KINDS
        }
        found["completions"] = connection.execute(select(completions.c.id)).scalars().all()
        days = sorted(connection.execute(select(usage_days.c.day)).scalars())
    return {name: sorted(int(id[1:]) for id in ids) for name, ids in found.items()} | {"sums": days}


def test_of_each_class_exactly_what_is_due_is_deleted(store: FeedbackStore, database: Engine) -> None:
    store.write(of_days(20))
    kept = retention_of(
        Settings(feedback_days=15, feedback_days_by_class="shown: 10, dismissed:2, accepted: 12.25, kept: 5, sums: 18")
    )
    assert store.forget_due(kept, now=20 * DAY_S + 3600) == 5
    expected = {"completions": 5, "shown": 10, "dismissed": 18, "accepted": 8, "kept": 15, "saved": 15, "sums": 2}
    assert left(database) == {name: list(range(first, 20)) for name, first in expected.items()}
    assert store.forget_due(kept, now=20 * DAY_S + 3600) == 0
    store.forget_due(kept, now=21 * DAY_S)
    assert left(database)["shown"] == list(range(11, 20)) and left(database)["sums"] == list(range(3, 20))


def test_sums_outlive_what_they_are_made_of_whatever_comes_later(store: FeedbackStore, database: Engine) -> None:
    store.write(of_days(20))
    store.write([fact("bob", user="bob", at=3.5 * DAY_S), told("bob", "shown")])
    before = usage.cells(database, usage.Wanted(since=0, until=20 * DAY_S))
    kept = Retention(completions=10, events={"shown": 5, "accepted": 5}, sums=400)
    for _ in range(2):
        store.forget_due(kept, now=20 * DAY_S + 60)
        assert store.write([told("c12", "shown")]) == 1  # too late: of that day some of it is gone
        assert 12 not in left(database)["shown"]
        assert usage.cells(database, usage.Wanted(since=0, until=20 * DAY_S)) == before
    store.forget_user("bob")
    found = usage.cells(database, usage.Wanted(since=0, until=20 * DAY_S))
    assert usage.total(found).opportunities == 20 and usage.total(found).accepted == 20


def test_nobody_decides_by_days_of_which_something_is_gone(store: FeedbackStore) -> None:
    store.write(of_days(20))
    store.forget_due(Retention(completions=15, events={"accepted": 7, "dismissed": 1}, sums=15), now=20 * DAY_S + 60)
    assert [o.completion for o in store.outcomes(None, 0)] == [f"c{day:02}" for day in range(14, 20)]
    assert all(o.is_accepted for o in store.outcomes(None, 0))


def test_of_a_day_that_is_not_over_nothing_goes(store: FeedbackStore, database: Engine) -> None:
    store.write(of_days(3))
    store.forget_due(Retention(completions=0.1, events={}, sums=9), now=2.9 * DAY_S)
    assert left(database)["completions"] == [2] and left(database)["sums"] == [0, 1]


@pytest.mark.parametrize(
    ("days", "by_class", "said"),
    [
        (90, "seen: 3", "'seen': no such class"),
        (90, "shown: 91", "91 is above feedback_days"),
        (90, "sums: 30", "30 is below feedback_days"),
        *((90, f"shown: {wrong}", "no number of days") for wrong in ("0", "-1", "x", "nan", "inf", "")),
    ],
)
def test_a_class_that_makes_no_sense_is_refused_with_a_remedy(days: float, by_class: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        retention_of(Settings(feedback_days=days, feedback_days_by_class=by_class))


def test_without_classes_all_is_kept_as_long_as_the_completions() -> None:
    assert retention_of(Settings(feedback_days=30)) == Retention(completions=30, events={}, sums=30)


def test_what_was_recorded_before_closing_is_written(tmp_path: Path) -> None:
    lost: list[tuple[str, int]] = []
    store = FeedbackStore(open_database("", tmp_path / "homespun.db"))
    recorder = Recorder(store, retention=KEPT, on_lost=lambda reason, number: lost.append((reason, number)))
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
    recorder = Recorder(store, retention=KEPT, on_lost=lambda reason, number: None)
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
        FeedbackStore(engine), retention=KEPT, on_lost=lambda reason, number: lost.append((reason, number))
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
    recorder = Recorder(store, retention=KEPT, on_lost=lambda why, number: lost.append((why, number)), on_sweep=fail)
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
