"""Writes what became of completions, and reads it: as outcomes, or by user in numbers."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, Engine, Row, delete, exists, insert, select, update

from homespun_core.outcomes import Outcome
from homespun_server.database.conflicts import again_after_conflict
from homespun_server.database.opening import unhurried, writing
from homespun_server.feedback import kept as whole
from homespun_server.feedback import sums, tallies
from homespun_server.feedback.facts import CompletionFact, Event, EventKind, Fact
from homespun_server.feedback.kept import Kept, Told
from homespun_server.feedback.retention import Retention
from homespun_server.feedback.sums import SETTLED_S
from homespun_server.feedback.tables import completions, events, kept_completions
from homespun_server.feedback.tallies import Arm

_DAY_S = 86_400.0
_UNCOUNTED: EventKind = "dismissed"
"""Of no use to sums and outcomes: without it, both are as they were."""
_STREAMED = {"yield_per": 10_000}
"""Rows at a time: PostgreSQL's driver holds all of an answer otherwise."""
_LATE_S = 7 * _DAY_S
"""So much later a client that was without a network may tell that something was dismissed."""


class FeedbackStore:
    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._looked: dict[EventKind, float] = {}
        """How far events that are due were looked for: not all of three months once an hour."""

    def close(self) -> None:
        self._engine.dispose()

    @again_after_conflict
    def write(self, facts: Sequence[Fact], kept: Sequence[Kept] = ()) -> int:
        """In one transaction; returns how many events were left out since nothing is known of their completion. The
        same fact twice is one fact; of two counts of characters the larger stands."""
        with self._engine.begin() as connection:
            sums.unsettle(connection, map(sums.day_of, _times(connection, facts)))
            _write_completions(connection, {f.id: f for f in facts if isinstance(f, CompletionFact)})
            whole.write(connection, kept)
            return _write_events(connection, [f for f in facts if isinstance(f, Event)])

    def outcomes(
        self, repository: str | None, since: float, until: float | None = None, *, only_kept: bool = False
    ) -> Sequence[Outcome]:
        """Those of one repository (None: of all) asked for from `since` until those that can still change, by time;
        `only_kept`: of the completions that are kept whole. One object each: `by_adapter` is for many."""
        with self._engine.connect() as connection:
            wanted = _settled(connection, since, until)
            if repository is not None:
                wanted &= completions.c.repository == repository
            if only_kept:
                wanted &= completions.c.id.in_(select(kept_completions.c.completion))
            return [_outcome(row, told) for row, told in _read(connection, wanted)]

    def remembered(self, since: float, most: int) -> Iterator[tuple[Outcome, Mapping[str, float]]]:
        """Of all repositories the newest that were shown, so many at most, by time, with the features of each: read as
        they are asked for."""
        told = events.alias()
        is_shown = exists().where((told.c.completion == completions.c.id) & told.c.kind.in_(("shown", "accepted")))
        with self._engine.connect() as connection:
            unhurried(connection)
            wanted = _settled(connection, since) & is_shown
            newest = select(completions.c.time).where(wanted).order_by(completions.c.time.desc())
            first = connection.execute(newest.offset(most - 1).limit(1)).scalar()
            wanted = wanted if first is None else wanted & (completions.c.time >= first)
            for row, said in _read(connection, wanted, completions.c.features):
                yield _outcome(row, said), row.features

    def by_adapter(
        self, adapters: Collection[str | None], repositories: Collection[str], since: float, until: float | None = None
    ) -> Mapping[str | None, Arm]:
        """What users made of each of these adapters (None is the base model), of the same time."""
        with self._engine.connect() as connection:
            unhurried(connection)
            wanted = _settled(connection, since, until) & completions.c.repository.in_(repositories)
            return tallies.arms(connection, completions.c.adapter, adapters, wanted)

    def by_prompt(self, versions: Collection[str]) -> Mapping[str | None, Arm]:
        """What users made of each of these prompts, of all the time that there is."""
        with self._engine.connect() as connection:
            unhurried(connection)
            return tallies.arms(connection, completions.c.prompt_version, versions, _settled(connection, 0.0))

    @again_after_conflict
    def forget_user(self, user: str) -> int:
        """How many completions were deleted, with all that was said of them."""
        with self._engine.begin() as connection:
            unhurried(connection)
            sums.forget_user(connection, user)
            return connection.execute(delete(completions).where(completions.c.user == user)).rowcount

    @again_after_conflict
    def forget_all(self) -> None:
        with self._engine.begin() as connection:
            unhurried(connection)
            sums.forget_before(connection, time.time() + _DAY_S)
            connection.execute(delete(completions))

    @again_after_conflict
    def forget_due(self, retention: Retention, now: float | None = None) -> int:
        """What is older than it may be; how many completions that were. Their days are summed up first, and of one that
        isn't over nothing goes. An event is as old as its completion."""
        now = time.time() if now is None else now
        sums.sum_up(self._engine, until=now)
        over = float(sums.day_of(now - SETTLED_S) * sums.DAY_S)
        due = {kind: min(over, now - days * _DAY_S) for kind, days in retention.events.items()}
        all_due = min(over, now - retention.completions * _DAY_S)
        with writing(self._engine) as connection:
            unhurried(connection)
            is_summed = sums.make_final(connection, max([all_due, *(due[kind] for kind in due if kind != _UNCOUNTED)]))
            for kind, limit in due.items():
                since = self._looked.get(kind, 0.0) - _LATE_S
                old = select(completions.c.id).where(sums.between(since, limit))
                old = old if kind == _UNCOUNTED else old.where(is_summed)
                connection.execute(delete(events).where((events.c.kind == kind) & events.c.completion.in_(old)))
            gone = connection.execute(delete(completions).where((completions.c.time < all_due) & is_summed)).rowcount
            sums.forget_before(connection, now - retention.sums * _DAY_S)
        self._looked |= due
        return gone

    def keep_only(self, named: Collection[str], days: float) -> None:
        """Of whole completions those of these repositories, for so long."""
        with self._engine.begin() as connection:
            whole.forget_outside(connection, named, days_ago(days))

    def num_kept(self) -> Mapping[str, int]:
        with self._engine.connect() as connection:
            return whole.counted(connection)

    def files_of_kept(self, since: float) -> Mapping[str, str]:
        """Whole completion -> the file that it was asked for in."""
        with self._engine.connect() as connection:
            return whole.files(connection, since)

    def told(self, repository: str) -> Sequence[Told]:
        """Whole completions with what became of them, by time; without those that may still change."""
        outcomes = {outcome.completion: outcome for outcome in self.outcomes(repository, 0.0, only_kept=True)}
        mine = kept_completions.c.repository == repository
        with self._engine.connect() as connection:
            rows = connection.execute(select(kept_completions).where(mine).order_by(kept_completions.c.time)).all()
            of_these = events.c.completion.in_(select(kept_completions.c.completion).where(mine))
            gone = select(events.c.completion).where(of_these, events.c.kind == "dismissed")
            dismissed = set(connection.execute(gone).scalars())
        found = [Kept(**(row._asdict() | {"paths": tuple(row.paths), "ids": tuple(row.ids)})) for row in rows]
        return [
            Told(kept=row, outcome=outcomes[row.completion], is_dismissed=row.completion in dismissed)
            for row in found
            if row.completion in outcomes
        ]

    def sum_up(self) -> int:
        """The days that are over; how many there were to do."""
        return sums.sum_up(self._engine)


def _times(connection: Connection, facts: Sequence[Fact]) -> list[float]:
    """When what they are about was asked for."""
    ids = sorted({f.completion for f in facts if isinstance(f, Event)})
    known = connection.execute(select(completions.c.time).where(completions.c.id.in_(ids))).scalars()
    return [*known, *(f.time for f in facts if isinstance(f, CompletionFact))]


def _write_completions(connection: Connection, facts: Mapping[str, CompletionFact]) -> None:
    known = _known(connection, list(facts))
    rows = [{c.name: getattr(f, c.name) for c in completions.c} for f in facts.values() if f.id not in known]
    if rows:
        connection.execute(insert(completions), rows)


def _write_events(connection: Connection, facts: Sequence[Event]) -> int:
    """Not of what is so old that some of it was deleted: nothing would count them, and nobody look for them again."""
    asked = select(completions.c.id, completions.c.user, completions.c.characters, completions.c.first_line)
    ids = sorted({f.completion for f in facts})
    wanted = completions.c.id.in_(ids) & (completions.c.time >= sums.complete_since(connection))
    sizes = {row.id: row for row in connection.execute(asked.where(wanted))}
    num_unknown = 0
    for fact in facts:
        size = sizes.get(fact.completion)
        if size is None or fact.user not in ("", size.user):
            num_unknown += 1
            continue
        _write_event(connection, fact, _characters(fact, size.characters, size.first_line))
    return num_unknown


def _characters(event: Event, whole: int, first_line: int) -> int:
    """Never more than the completion has."""
    if event.is_line:
        return first_line
    return whole if event.characters is None else min(event.characters, whole)


def _write_event(connection: Connection, event: Event, characters: int) -> None:
    key = (events.c.completion == event.completion) & (events.c.kind == event.kind)
    before = connection.execute(select(events.c.characters).where(key)).scalar()
    if before is None:
        row = {"completion": event.completion, "kind": event.kind, "time": event.time, "characters": characters}
        connection.execute(insert(events).values(row))
    elif characters > before:
        connection.execute(update(events).where(key).values(characters=characters))


def _known(connection: Connection, ids: Sequence[str]) -> frozenset[str]:
    return frozenset(connection.execute(select(completions.c.id).where(completions.c.id.in_(ids))).scalars())


def _settled(connection: Connection, since: float, until: float | None = None) -> ColumnElement[bool]:
    """Completions that can change no more (or those before `until`). Of days of which something was deleted for its
    age, none: who was shown and not what was accepted would prove the wrong thing."""
    until = time.time() - SETTLED_S if until is None else until
    return sums.between(max(since, sums.complete_since(connection)), until)


def _read(
    connection: Connection, wanted: ColumnElement[bool], *more: ColumnElement[Any]
) -> Iterator[tuple[Row[Any], Mapping[EventKind, int]]]:
    """Completions by time, each with what was told of it."""
    told: dict[str, dict[EventKind, int]] = {}
    for event in connection.execute(select(events).join(completions).where(wanted), execution_options=_STREAMED):
        told.setdefault(event.completion, {})[event.kind] = event.characters
    columns = [completions.c.id, *(completions.c[name] for name in _SAME), *more]
    by_time = select(*columns).where(wanted).order_by(completions.c.time, completions.c.id)
    for row in connection.execute(by_time, execution_options=_STREAMED):
        yield row, told.get(row.id, {})


_SAME = ("time", "user", "repository", "language", "adapter", "latency_ms", "verdict", "prompt_version")
"""Columns that are fields of an outcome."""


def _outcome(row: Row[Any], told: Mapping[EventKind, int]) -> Outcome:
    """Where a client doesn't look what is kept, all that was accepted counts as kept."""
    accepted = told.get("accepted", 0)
    kept = told.get("kept", told.get("saved", accepted))
    return Outcome(
        completion=row.id,
        **{name: getattr(row, name) for name in _SAME},
        is_shown="shown" in told or "accepted" in told,
        is_accepted="accepted" in told,
        accepted_characters=accepted,
        kept_characters=min(kept, accepted),
    )


def days_ago(days: float) -> float:
    return time.time() - days * _DAY_S
