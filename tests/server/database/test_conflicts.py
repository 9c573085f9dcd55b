"""PostgreSQL is slow, somebody holds its locks, or two transactions want each other's (row 32 of the fault matrix)."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import Connection, Engine, create_engine
from sqlalchemy.exc import OperationalError

from homespun_core.paths import DataDir
from homespun_server.database import opening
from homespun_server.database.opening import _MIGRATING, open_database
from homespun_server.feedback.sums import sum_up
from homespun_server.jobs.store import JobStore
from tests.postgres import Cluster
from tests.server.jobs.test_jobs_http import Site


@contextmanager
def stranger(url: str) -> Iterator[Connection]:
    """Somebody else's transaction on our database."""
    engine = create_engine(url)
    with engine.connect() as connection:
        yield connection
    engine.dispose()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening, "_STATEMENT_S", 0.3)


def test_what_lost_a_deadlock_is_done_again(cluster: Cluster, tmp_path: Path) -> None:
    """A report holds its job and wants the one that waits; the stranger holds that one and wants the report's."""
    url = cluster.new_database()
    engine = open_database(url, tmp_path / "unused.db")
    store = JobStore(engine)
    store.add("index", "shop", "shop")
    job = store.lease("w", ["index"])
    assert job is not None
    waiting = store.add("index", "shop", "shop", commit="newer")
    lock = "SELECT id FROM jobs WHERE id = %d FOR UPDATE"
    with stranger(url) as other, ThreadPoolExecutor(1) as pool:
        other.exec_driver_sql("SET deadlock_timeout = '1min'")  # so that it isn't this one that is ended
        other.exec_driver_sql(lock % waiting.id)
        report = pool.submit(store.report, job.id, job.fence, "failed", reason="no network")
        _await_lock(engine)
        other.exec_driver_sql(lock % job.id)  # granted when the report was ended
        assert not report.done()
        other.rollback()
        assert report.result(30).state == "cancelled"
    assert "no network" in store.get(job.id).reason and store.get(waiting.id).state == "queued"
    engine.dispose()


@pytest.mark.usefixtures("impatient")
async def test_while_somebody_locks_the_queue_workers_are_told_to_come_back(cluster: Cluster, tmp_path: Path) -> None:
    url = cluster.new_database()
    site = Site(DataDir(tmp_path / "data"), database_url=url)
    await site.add()
    job = await site.lease()
    sign = {"job": job["id"], "fence": job["fence"]}
    with stranger(url) as other:
        other.exec_driver_sql("LOCK TABLE jobs IN ACCESS EXCLUSIVE MODE")
        for what, body in (("lease", {"worker": "o", "kinds": ["index"]}), ("heartbeat", sign)):
            answer = await site.work(what, body)
            assert answer.status_code == 503 and answer.headers["retry-after"]
    assert (await site.work("heartbeat", sign)).status_code == 200
    site.app.state.runtime.close()


@pytest.mark.usefixtures("impatient")
def test_a_statement_without_an_end_is_ended_but_one_that_may_be_long_is_not(cluster: Cluster, tmp_path: Path) -> None:
    url = cluster.new_database()
    with stranger(url) as other, ThreadPoolExecutor(1) as pool:
        other.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_MIGRATING})")
        opened = pool.submit(open_database, url, tmp_path / "unused.db")  # waits for who migrates
        time.sleep(0.6)
        assert not opened.done()
        other.rollback()
        engine = opened.result(30)
        with engine.connect() as connection, pytest.raises(OperationalError, match="statement timeout"):
            connection.exec_driver_sql("SELECT pg_sleep(30)")
        assert sum_up(engine) == 0
    engine.dispose()


def _await_lock(engine: Engine) -> None:
    waits = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    deadline = time.monotonic() + 30
    while True:
        with engine.connect() as connection:
            if connection.exec_driver_sql(waits).scalar_one():
                return
        assert time.monotonic() < deadline
        time.sleep(0.01)
