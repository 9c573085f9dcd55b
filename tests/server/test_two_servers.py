"""Two servers on one database and one data directory do what each does by itself, at the same moments, and it is done
once (row 33 of the fault matrix). There is no leader to be elected: each change is a transaction, or names what it is
about."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest
from sqlalchemy import Engine

from homespun_core import registry
from homespun_core.aliases import MANUAL
from homespun_core.notify import NotifyConfig
from homespun_core.paths import DataDir
from homespun_server.database.opening import open_database
from homespun_server.feedback.store import FeedbackStore
from homespun_server.jobs.notices.following import Follower
from homespun_server.jobs.store import JobStore
from tests.core.adapters import make_version
from tests.postgres import Cluster
from tests.server.rollout.test_follower import REPO, follower, use

ENDPOINT = NotifyConfig(url="https://chat.example.com/hook", secret="a secret of the tests, long enough", internal=True)


@pytest.fixture
def servers(cluster: Cluster, tmp_path: Path) -> Iterator[Sequence[Engine]]:
    """As each of them has opened the database."""
    url = cluster.new_database()
    opened = [open_database(url, tmp_path / "unused.db") for _ in range(2)]
    yield opened
    for engine in opened:
        engine.dispose()


def at_once(*duties: Callable[[], object]) -> None:
    together = Barrier(len(duties))

    def one(duty: Callable[[], object]) -> None:
        together.wait(30)
        duty()

    with ThreadPoolExecutor(len(duties)) as pool:
        list(pool.map(one, duties))


def test_a_lost_job_is_given_up_once_and_told_of_once(servers: Sequence[Engine], tmp_path: Path) -> None:
    stores = [JobStore(engine, lease_s=0.0) for engine in servers]
    followers = [
        Follower(DataDir(tmp_path), engine, store, [ENDPOINT]) for engine, store in zip(servers, stores, strict=True)
    ]
    followers[0].look()  # from here on it is news
    jobs = [stores[0].add("train", f"repo {number}", f"repo {number}") for number in range(5)]
    for number in range(5):
        assert stores[number % 2].lease(f"w{number}", ["train"]) is not None
    at_once(*(store.tidy for store in stores * 2))
    assert [(job.state, job.attempts) for job in map(stores[0].get, (job.id for job in jobs))] == [("queued", 1)] * 5
    for job in jobs:
        stores[0].cancel(job.id)
    gone = stores[0].add("train", "nowhere", "nowhere")
    lease = stores[0].lease("w", ["train"])
    assert lease is not None
    stores[0].report(gone.id, lease.fence, "impossible", reason="no such directory")
    for _ in range(3):
        at_once(*(each.look for each in followers))
    told = [job.repository for job in stores[0].jobs(kinds=["notify"])]
    assert len(told) == len(set(told)) == 6  # five that were cancelled, one that failed


def test_a_thousand_pushes_at_two_servers_are_one_waiting_job(servers: Sequence[Engine]) -> None:
    stores = [JobStore(engine) for engine in servers]

    def pushed(store: JobStore) -> None:
        for number in range(50):
            store.add("index", "shop", "shop", commit=f"{number:040x}")

    at_once(*(lambda store=store: pushed(store) for store in stores * 2))
    (waiting,) = stores[0].jobs()
    assert waiting.state == "queued"


@pytest.mark.parametrize("accepted", [3, 1], ids=["better", "worse"])
def test_a_candidate_is_judged_once(
    servers: Sequence[Engine], tmp_path: Path, caplog: pytest.LogCaptureFixture, accepted: int
) -> None:
    data, stores = DataDir(tmp_path), [FeedbackStore(engine) for engine in servers]
    place = data.adapters(REPO)
    registry.promote(place, make_version(place, "v1"))
    registry.offer(place, make_version(place, "v2"), MANUAL)
    followers = [follower(data, store) for store in stores]
    now = time.time()
    for _ in range(4):
        use(stores[0], "v1", 2, now + 10, "a")
        use(stores[1], "v2", accepted, now + 10, "b")
        now += 100.0
        at_once(*(lambda each=each, now=now: each.look(now=now) for each in followers))
        if registry.aliases(place).candidate is None:
            break
    names, by_itself = registry.aliases(place), [e for e in registry.history(place) if e.by == "rollout"]
    assert names.candidate is None and names.champion == ("v2" if accepted == 3 else "v1")
    assert [event.what for event in by_itself] == ["approve" if accepted == 3 else "reject"]
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


def test_a_bad_champion_is_rolled_back_once(
    servers: Sequence[Engine], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data, stores = DataDir(tmp_path), [FeedbackStore(engine) for engine in servers]
    place, since = data.adapters(REPO), time.time()
    for version in ("v0", "v1"):  # one below, to which a second rollback would go
        registry.promote(place, make_version(place, version))
    registry.offer(place, make_version(place, "v2"), MANUAL)
    use(stores[0], "v1", 3, since - 100)
    registry.approve(place, by="ann")
    use(stores[1], "v2", 1, since + 100)
    at_once(*(lambda each=each: each.look(now=since + 200) for each in [follower(data, s) for s in stores * 2]))
    assert registry.aliases(place).champion == "v1"
    assert [e.what for e in registry.history(place) if e.by == "rollout"] == ["rollback"]
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]
