"""The queue: jobs in the database, changed by one transaction each, as `states` says."""

from __future__ import annotations

import random
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from sqlalchemy import Connection, Engine, Row, Select, and_, delete, func, insert, select, update
from sqlalchemy.exc import IntegrityError

from homespun_core.errors import ServiceError
from homespun_server.database.conflicts import again_after_conflict
from homespun_server.database.opening import writing
from homespun_server.jobs import states
from homespun_server.jobs.clock import QueueClock
from homespun_server.jobs.states import ENDED, WORKER_KINDS, Ending, Job, Kind, LeaseLost, State
from homespun_server.jobs.tables import jobs

LEASE_S = 60.0
LOG_CHARACTERS = 16_000
"""The end of a job's log is kept, the rest is not."""
_KEEP_S = 30 * 86_400.0
_COLUMNS = [jobs.c[field.name] for field in fields(Job)]
_CHANGING = frozenset(field.name for field in fields(Job)) - {"id", "kind", "repository", "created"}
_TRIES = 5
_LOST = 0.1
"""Of the pause, where a worker died: it isn't the network that has to come back."""


class NoSuchJob(ServiceError):
    pass


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """How far a job is; None is unknown."""

    fraction: float | None = None
    words: str = ""
    eta_s: float | None = None


class JobStore:
    def __init__(
        self,
        engine: Engine,
        *,
        lease_s: float = LEASE_S,
        clock: QueueClock | None = None,
    ) -> None:
        self._engine, self.lease_s = engine, lease_s
        self._clock = clock or QueueClock()

    @again_after_conflict
    def add(
        self,
        kind: Kind,
        repository: str,
        source: str,
        *,
        commit: str | None = None,
        priority: int = 0,
        delay_s: float = 0.0,
        asked_by: str = "",
        details: Mapping[str, Any] | None = None,
    ) -> Job:
        """The job that will do it: a new one, or the one that waits already, which is about the newest commit then."""
        wanted = {"source": source, "commit": commit, "asked_by": asked_by, "details": details}
        for _ in range(_TRIES):
            try:
                with writing(self._engine) as connection:
                    now = self._clock.now(connection)
                    waiting = self._of(connection, kind, repository, "queued")
                    if waiting is not None:
                        sooner = min(waiting.not_before, now + delay_s) if not waiting.attempts else waiting.not_before
                        changed = {"not_before": sooner, "priority": max(priority, waiting.priority)}
                        connection.execute(update(jobs).where(jobs.c.id == waiting.id).values(**wanted, **changed))
                        return _get(connection, waiting.id)
                    return _inserted(connection, kind, repository, priority, now, delay_s, wanted)
            except IntegrityError:  # on PostgreSQL another one was faster; it waits now
                continue
        raise ServiceError(f"{kind} of {repository}: too many ask for it at once; try again")

    @again_after_conflict
    def lease(self, worker: str, kinds: Collection[Kind]) -> Job | None:
        """The next job, now this worker's. A worker does one at a time: what it has not reported is lost."""
        try:
            with writing(self._engine) as connection:
                now = self._clock.now(connection)
                self._give_up(connection, now, worker)
                job = self._next(connection, kinds, now)
                if job is not None:
                    fence = _next_fence(connection, job, now)
                    job = states.leased(job, worker=worker, fence=fence, now=now, lease_s=self.lease_s)
                    self._write(connection, job, log="")
        except IntegrityError:  # on PostgreSQL another server was faster
            return None
        return job

    @again_after_conflict
    def beat(self, id: int, fence: int, step: Step | None = None, log: Sequence[str] = ()) -> Job:
        """Raises LeaseLost, also for a job that isn't there."""
        with writing(self._engine) as connection:
            now = self._clock.now(connection)
            job = states.beaten(_leased(connection, id), fence=fence, now=now, lease_s=self.lease_s)
            job = job if step is None else replace(job, **asdict(step))
            self._write(connection, job, log=_tail(connection, id, log) if log else None)
        return job

    @again_after_conflict
    def report(
        self,
        id: int,
        fence: int,
        ending: Ending,
        *,
        reason: str = "",
        result: str = "",
        log: Sequence[str] = (),
        pause_s: float | None = None,
    ) -> Job:
        """The worker's last word. Raises LeaseLost. `pause_s`: before it is tried again, if that is known better."""
        with writing(self._engine) as connection:
            now = self._clock.now(connection)
            before = _leased(connection, id)
            pause = _pause(before) if pause_s is None else pause_s
            job = states.reported(before, fence=fence, ending=ending, reason=reason, now=now, pause_s=pause)
            job = self._settle(connection, replace(job, result=result), now)
            self._write(connection, job, log=_tail(connection, id, log) if log else None)
        return job

    @again_after_conflict
    def cancel(self, id: int, by: str = "") -> Job:
        """Raises Refused and NoSuchJob."""
        with writing(self._engine) as connection:
            now = self._clock.now(connection)
            job = states.cancelled(_get(connection, id, for_update=True), by=by, now=now)
            self._write(connection, job)
        return job

    @again_after_conflict
    def retry(self, id: int) -> Job:
        """Raises Refused and NoSuchJob."""
        with writing(self._engine) as connection:
            job = states.retried(_get(connection, id, for_update=True), now=self._clock.now(connection))
            waiting = self._of(connection, job.kind, job.repository, "queued")
            if waiting is not None:
                raise states.Refused(f"job {waiting.id} about the same waits already")
            self._write(connection, job)
        return job

    @again_after_conflict
    def resume(self) -> None:
        """When a server starts: while there was none, no worker could be heard from."""
        with writing(self._engine) as connection:
            until = self._clock.now(connection) + self.lease_s
            connection.execute(update(jobs).where(jobs.c.state == "running").values(lease_until=until))

    @again_after_conflict
    def tidy(self) -> None:
        """Give up on silent workers, and forget what ended long ago; never the last job about a thing, whose fence
        the next one must exceed."""
        with writing(self._engine) as connection:
            now = self._clock.now(connection)
            self._give_up(connection, now)
            newest = select(func.max(jobs.c.id)).group_by(jobs.c.kind, jobs.c.repository)
            is_over = jobs.c.state.in_(sorted(ENDED)) & (jobs.c.ended < now - _KEEP_S)
            is_spare = jobs.c.id.not_in(newest) | jobs.c.kind.not_in(WORKER_KINDS)
            connection.execute(delete(jobs).where(is_over & is_spare))

    def get(self, id: int) -> Job:
        with self._engine.connect() as connection:
            return _get(connection, id)

    def log(self, id: int) -> str:
        with self._engine.connect() as connection:
            _get(connection, id)
            return str(connection.execute(select(jobs.c.log).where(jobs.c.id == id)).scalar_one())

    def details(self, id: int) -> Mapping[str, Any]:
        with self._engine.connect() as connection:
            return connection.execute(select(jobs.c.details).where(jobs.c.id == id)).scalar_one() or {}

    def jobs(
        self,
        *,
        states: Collection[State] | None = None,
        kinds: Collection[Kind] = WORKER_KINDS,
        repositories: Collection[str] | None = None,
        limit: int = 100,
    ) -> list[Job]:
        """Newest first."""
        query = select(*_COLUMNS).where(jobs.c.kind.in_(sorted(kinds))).order_by(jobs.c.id.desc()).limit(limit)
        if states is not None:
            query = query.where(jobs.c.state.in_(sorted(states)))
        if repositories is not None:
            query = query.where(jobs.c.repository.in_(sorted(repositories)))
        with self._engine.connect() as connection:
            return [_job(row) for row in connection.execute(query)]

    def knows(self, kind: Kind, repository: str) -> bool:
        """Whether there ever was a job about it, as far back as they are kept."""
        is_it = (jobs.c.kind == kind) & (jobs.c.repository == repository)
        with self._engine.connect() as connection:
            return connection.execute(select(jobs.c.id).where(is_it).limit(1)).first() is not None

    def counts(self) -> dict[tuple[str, str], int]:
        """By kind and state."""
        with self._engine.connect() as connection:
            query = select(jobs.c.kind, jobs.c.state, func.count()).group_by(jobs.c.kind, jobs.c.state)
            return {(kind, state): number for kind, state, number in connection.execute(query)}

    def num_due(self, kinds: Collection[Kind]) -> int:
        """Those that a worker would be given now, one after the other."""
        with self._engine.connect() as connection:
            due = _due(kinds, self._clock.now(connection)).subquery()
            return int(connection.execute(select(func.count()).select_from(due)).scalar_one())

    def now(self) -> float:
        with self._engine.connect() as connection:
            return self._clock.now(connection)

    def _next(self, connection: Connection, kinds: Collection[Kind], now: float) -> Job | None:
        query = _due(kinds, now).order_by(jobs.c.priority.desc(), jobs.c.id).limit(1).with_for_update(skip_locked=True)
        row = connection.execute(query).first()
        return None if row is None else _job(row)

    def _give_up(self, connection: Connection, now: float, worker: str | None = None) -> None:
        """What silent workers had, and what this one had."""
        is_lost = jobs.c.lease_until < now if worker is None else (jobs.c.lease_until < now) | (jobs.c.worker == worker)
        query = select(*_COLUMNS).where(jobs.c.state == "running", is_lost).with_for_update(skip_locked=True)
        for row in connection.execute(query).all():
            job = states.lost(_job(row), now=now, pause_s=_pause(_job(row)) * _LOST)
            self._write(connection, self._settle(connection, job, now))

    def _settle(self, connection: Connection, job: Job, now: float) -> Job:
        """One that is to wait gives way to the newer one that waits already, which then waits as long."""
        waiting = self._of(connection, job.kind, job.repository, "queued") if job.state == "queued" else None
        if waiting is None:
            return job
        self._write(connection, replace(waiting, not_before=max(waiting.not_before, job.not_before)))
        return states.superseded(job, waiting.id, now)

    def _of(self, connection: Connection, kind: Kind, repository: str, state: State) -> Job | None:
        is_it = and_(jobs.c.kind == kind, jobs.c.repository == repository, jobs.c.state == state)
        row = connection.execute(select(*_COLUMNS).where(is_it).with_for_update()).first()
        return None if row is None else _job(row)

    def _write(self, connection: Connection, job: Job, log: str | None = None) -> None:
        values = {name: getattr(job, name) for name in _CHANGING}
        values |= {} if log is None else {"log": log}
        connection.execute(update(jobs).where(jobs.c.id == job.id).values(**values))


def _due(kinds: Collection[Kind], now: float) -> Select[Any]:
    """Of each kind and repository, none waits while another runs."""
    other = jobs.alias()
    runs = select(other.c.id).where(
        other.c.kind == jobs.c.kind, other.c.repository == jobs.c.repository, other.c.state == "running"
    )
    return select(*_COLUMNS).where(
        jobs.c.state == "queued", jobs.c.kind.in_(sorted(kinds)), jobs.c.not_before <= now, ~runs.exists()
    )


def _inserted(
    connection: Connection,
    kind: Kind,
    repository: str,
    priority: int,
    now: float,
    delay_s: float,
    wanted: dict[str, Any],
) -> Job:
    blank = Job(id=0, kind=kind, repository=repository, source="", priority=priority)
    row = asdict(replace(blank, created=now, not_before=now + delay_s)) | {"log": ""} | wanted
    del row["id"]
    result = connection.execute(insert(jobs).values(**row))
    assert result.inserted_primary_key is not None
    return _get(connection, result.inserted_primary_key[0])


def _get(connection: Connection, id: int, *, for_update: bool = False) -> Job:
    query = select(*_COLUMNS).where(jobs.c.id == id)
    row = connection.execute(query.with_for_update() if for_update else query).first()
    if row is None:
        raise NoSuchJob(f"there is no job {id}; see: homespun jobs list")
    return _job(row)


def _leased(connection: Connection, id: int) -> Job:
    try:
        return _get(connection, id, for_update=True)
    except NoSuchJob as error:
        raise LeaseLost(str(error)) from None


def _next_fence(connection: Connection, job: Job, now: float) -> int:
    """Above all earlier ones about the same thing; by time, so that it is also after the database was made anew, while
    the numbers that were written beside what is published are the old ones."""
    is_same = (jobs.c.kind == job.kind) & (jobs.c.repository == job.repository)
    last = connection.execute(select(func.max(jobs.c.fence)).where(is_same)).scalar() or 0
    return max(int(last) + 1, int(now * 1_000))


def _tail(connection: Connection, id: int, lines: Sequence[str]) -> str:
    before: str = connection.execute(select(jobs.c.log).where(jobs.c.id == id)).scalar_one()
    whole = before + "".join(f"{line}\n" for line in lines)
    if len(whole) <= LOG_CHARACTERS:
        return whole
    return whole[-LOG_CHARACTERS:].partition("\n")[2]


def _pause(job: Job) -> float:
    return states.pause_s(job.attempts, random.random())


def _job(row: Row[Any]) -> Job:
    return Job(**row._asdict())
