"""The queue in the database: nothing is lost, nothing is done by two, and nothing stands in the way of the rest."""

from __future__ import annotations

import contextlib
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from sqlalchemy import Connection, Engine

from homespun_server.database.opening import open_database
from homespun_server.jobs.clock import QueueClock
from homespun_server.jobs.states import Ending, Job, Kind, LeaseLost, Refused
from homespun_server.jobs.store import LOG_CHARACTERS, JobStore, NoSuchJob, Step

KINDS: tuple[Kind, ...] = ("index", "train")


@dataclass
class SetClock(QueueClock):
    at: float = 1_000.0

    def now(self, connection: Connection) -> float:
        return self.at


@pytest.fixture
def clock() -> SetClock:
    return SetClock()


@pytest.fixture
def store(database: Engine, clock: SetClock) -> JobStore:
    return JobStore(database, clock=clock)


def leased(store: JobStore, worker: str = "w") -> Job:
    job = store.lease(worker, KINDS)
    assert job is not None
    return job


def test_due_is_what_workers_would_be_given_now(store: JobStore, clock: SetClock) -> None:
    trainings: tuple[Kind, ...] = ("train",)
    store.add("train", "shop", "shop")
    store.add("train", "later", "later", delay_s=60)
    store.add("index", "shop", "shop")
    assert store.num_due(trainings) == 1 and store.num_due(KINDS) == 2
    running = leased(store)
    store.add("train", running.repository, "shop")  # waits for the one that runs
    assert store.num_due(trainings) == 0
    clock.at += 60
    assert store.num_due(trainings) == 1


def test_a_thousand_pushes_are_one_running_and_one_waiting_job_about_the_newest(store: JobStore) -> None:
    store.add("index", "shop", "shop", commit="first")
    running = leased(store)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda n: store.add("index", "shop", "shop", commit=str(n)), range(998)))
    last = store.add("index", "shop", "shop", commit="newest")
    assert [(job.id, job.state) for job in store.jobs()] == [(last.id, "queued"), (running.id, "running")]
    assert last.commit == "newest"
    assert store.lease("other", KINDS) is None  # it waits for the one that runs
    store.report(running.id, running.fence, "done")
    assert leased(store, "other").commit == "newest"


def test_workers_that_ask_at_once_get_different_jobs(store: JobStore) -> None:
    for n in range(30):
        store.add("index", f"repo{n}", "x")
    with ThreadPoolExecutor(8) as pool:
        got = [job for job in pool.map(lambda n: store.lease(f"w{n}", KINDS), range(60)) if job is not None]
    ids = [job.id for job in got]
    assert len(ids) == len(set(ids))
    while (job := store.lease(f"late{len(ids)}", KINDS)) is not None:  # PostgreSQL skips what another is looking at
        ids.append(job.id)
    assert sorted(ids) == sorted(job.id for job in store.jobs())


def test_the_urgent_comes_first_and_the_later_waits(store: JobStore, clock: SetClock) -> None:
    low, high = store.add("index", "a", "a"), store.add("index", "b", "b", priority=5)
    late = store.add("index", "c", "c", priority=9, delay_s=30)
    assert [leased(store, "1").id, leased(store, "2").id] == [high.id, low.id]
    assert store.lease("3", KINDS) is None
    clock.at += 31
    assert leased(store, "3").id == late.id


def test_a_worker_gets_the_kinds_it_does(store: JobStore) -> None:
    store.add("train", "shop", "shop")
    assert store.lease("w", ["index"]) is None
    assert store.lease("w", ["train"]) is not None


def test_a_silent_workers_job_goes_to_another_and_its_report_is_refused(store: JobStore, clock: SetClock) -> None:
    store.add("index", "shop", "shop")
    zombie = leased(store, "zombie")
    clock.at += 61
    assert store.lease("other", KINDS) is None  # its second try comes a little later
    clock.at += 20
    second = leased(store, "other")
    assert (second.id, second.attempts) == (zombie.id, 2)
    assert second.fence > zombie.fence
    with pytest.raises(LeaseLost):
        store.beat(zombie.id, zombie.fence)
    with pytest.raises(LeaseLost):
        store.report(zombie.id, zombie.fence, "done")
    assert store.get(second.id).worker == "other"


def test_a_worker_that_is_heard_from_keeps_its_job(store: JobStore, clock: SetClock) -> None:
    store.add("index", "shop", "shop")
    job = leased(store)
    for _ in range(10):
        clock.at += 50
        store.beat(job.id, job.fence, Step(fraction=0.5, words="chunks", eta_s=9))
        assert store.lease("other", KINDS) is None
    shown = store.get(job.id)
    assert (shown.fraction, shown.words, shown.eta_s) == (0.5, "chunks", 9)


def test_a_restarted_workers_old_job_is_known_to_be_lost(store: JobStore, clock: SetClock) -> None:
    store.add("index", "shop", "shop")
    before = leased(store, "up")
    assert store.lease("up", KINDS) is None
    clock.at += 20
    assert leased(store, "up").id == before.id


def test_workers_get_time_to_be_heard_from_after_the_server_was_away(store: JobStore, clock: SetClock) -> None:
    store.add("index", "shop", "shop")
    job = leased(store)
    clock.at += 400 * 86_400
    store.resume()
    assert store.lease("other", KINDS) is None
    assert store.beat(job.id, job.fence).state == "running"


def test_setting_the_clock_of_the_machine_ends_no_lease(database: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    store = JobStore(database)
    store.add("index", "shop", "shop")
    job = leased(store)
    now = time.time()
    for jump in (400 * 86_400, -3_600):
        monkeypatch.setattr(time, "time", lambda jump=jump: now + jump)
        assert store.lease("other", KINDS) is None
        assert store.beat(job.id, job.fence).state == "running"


def test_one_that_fails_gives_way_to_the_newer_one_which_waits_as_long(store: JobStore, clock: SetClock) -> None:
    store.add("index", "shop", "shop", commit="old")
    job = leased(store)
    newer = store.add("index", "shop", "shop", commit="new")
    old = store.report(job.id, job.fence, "failed", reason="no network")
    assert old.state == "cancelled" and f"job {newer.id}" in old.reason and "no network" in old.reason
    assert store.lease("w", KINDS) is None
    clock.at += 20
    assert leased(store).id == newer.id


def test_cancelling_and_trying_again(store: JobStore) -> None:
    job = store.add("train", "shop", "shop")
    assert store.cancel(job.id, "ann").reason == "cancelled by ann"
    assert store.retry(job.id).state == "queued"
    assert leased(store).id == job.id
    store.cancel(job.id)
    running = store.get(job.id)
    assert running.is_unwanted and store.beat(job.id, running.fence).is_unwanted
    store.report(job.id, running.fence, "cancelled")
    store.add("train", "shop", "shop")
    with pytest.raises(Refused, match="waits already"):
        store.retry(job.id)
    with pytest.raises(NoSuchJob):
        store.cancel(999)


def test_the_end_of_the_log_is_kept(store: JobStore) -> None:
    store.add("index", "shop", "shop")
    job = leased(store)
    for n in range(400):
        store.beat(job.id, job.fence, log=[f"line {n} " + "x" * 90])
    log = store.log(job.id)
    assert len(log) <= LOG_CHARACTERS
    assert log.startswith("line ") and log.endswith("line 399 " + "x" * 90 + "\n")


def test_what_ended_long_ago_is_forgotten_but_not_the_number_of_its_lease(store: JobStore, clock: SetClock) -> None:
    fences = []
    for _ in range(3):
        store.add("index", "shop", "shop")
        job = leased(store)
        fences.append(job.fence)
        store.report(job.id, job.fence, "done")
    clock.at += 31 * 86_400
    store.tidy()
    assert [job.fence for job in store.jobs()] == fences[-1:]
    clock.at = 5  # even with a clock that was set back
    store.add("index", "shop", "shop")
    assert leased(store).fence > fences[-1]


def test_a_job_whose_workers_all_fall_silent_is_poisoned(store: JobStore, clock: SetClock) -> None:
    job = store.add("index", "shop", "shop")
    for _ in range(3):
        leased(store)
        clock.at += 1_000
        store.tidy()
        clock.at += 1_000
    assert store.get(job.id).state == "poisoned"


class Queue(RuleBasedStateMachine):
    """Workers that come, go, fall silent and come back, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = TemporaryDirectory()
        self.engine = open_database("", Path(self.folder.name) / "homespun.db")
        self.clock = SetClock()
        self.store = JobStore(self.engine, clock=self.clock)
        self.held: list[Job] = []
        """Every lease there ever was, zombies' too."""

    @rule(kind=st.sampled_from(KINDS), repository=st.sampled_from("abc"), priority=st.integers(0, 2))
    def asked_for(self, kind: str, repository: str, priority: int) -> None:
        self.store.add(kind, repository, repository, priority=priority)  # type: ignore[arg-type]

    @rule(worker=st.sampled_from("vwxyz"))
    def lease(self, worker: str) -> None:
        job = self.store.lease(worker, KINDS)
        if job is not None:
            assert all(job.fence > old.fence for old in self.held if _about(old) == _about(job))
            self.held.append(job)

    @precondition(lambda self: self.held)
    @rule(data=st.data(), ending=st.sampled_from(["done", "failed", "impossible", "given-back", "cancelled"]))
    def report(self, data: st.DataObject, ending: Ending) -> None:
        lease = data.draw(st.sampled_from(self.held))
        before = self.store.get(lease.id)
        try:
            self.store.report(lease.id, lease.fence, ending)
            assert (before.state, before.fence) == ("running", lease.fence)
        except LeaseLost:
            assert (before.state, before.fence) != ("running", lease.fence)

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def beat(self, data: st.DataObject) -> None:
        lease = data.draw(st.sampled_from(self.held))
        before = self.store.get(lease.id)
        try:
            assert self.store.beat(lease.id, lease.fence).fence == lease.fence
        except LeaseLost:
            assert (before.state, before.fence) != ("running", lease.fence)

    @rule(seconds=st.sampled_from([1, 30, 100, 10_000]))
    def time_goes_by(self, seconds: float) -> None:
        self.clock.at += seconds

    @precondition(lambda self: self.store.jobs())
    @rule(data=st.data(), again=st.booleans())
    def a_person_interferes(self, data: st.DataObject, again: bool) -> None:
        job = data.draw(st.sampled_from(self.store.jobs()))
        with contextlib.suppress(Refused):
            self.store.retry(job.id) if again else self.store.cancel(job.id)

    @rule()
    def server_restarts(self) -> None:
        self.store.resume()

    @invariant()
    def one_waits_and_one_runs_at_most(self) -> None:
        for state in ("queued", "running"):
            about = [_about(job) for job in self.store.jobs(states=[state])]
            assert len(about) == len(set(about))

    def teardown(self) -> None:
        """Whatever happened: with a worker that fails at everything, all of it ends."""
        for _ in range(100):
            self.clock.at += 10_000
            job = self.store.lease("last", KINDS)
            if job is not None:
                self.store.report(job.id, job.fence, "failed")
        assert self.store.jobs(states=["queued", "running"]) == []
        self.engine.dispose()
        self.folder.cleanup()


def _about(job: Job) -> tuple[str, str]:
    return job.kind, job.repository


TestQueue = Queue.TestCase
TestQueue.settings = settings(max_examples=25, stateful_step_count=30)
