"""Server, workers and jobs as processes, killed and stopped at bad moments."""

from __future__ import annotations

import json
import signal
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.command import Running, homespun, running
from tests.e2e.company import make_company
from tests.e2e.test_kill import is_running
from tests.repos import make_repo

pytestmark = pytest.mark.e2e


class HangingForge:
    """Takes connections and says nothing: a clone from it lasts as long as the test wants."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}/team/{uuid.uuid4().hex}.git"
        self._open: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self._open.append(connection)

    @property
    def num_clients(self) -> int:
        return sum(not _is_closed(connection) for connection in self._open)

    def close(self) -> None:
        if self._listener.fileno() < 0:
            return
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for connection in self._open:
            connection.close()


def _is_closed(connection: socket.socket) -> bool:
    """By the other side."""
    connection.setblocking(False)
    try:
        return connection.recv(100_000) == b"" or _is_closed(connection)
    except BlockingIOError:
        return False
    except OSError:
        return True


class Site:
    """A server on a data directory, and what `homespun` says of its queue."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.port = free_port()

    @contextmanager
    def serving(self) -> Iterator[Running]:
        words = ("serve", "--data-dir=data", f"--port={self.port}", "--job-lease-s=2")
        with running(*words, cwd=self.root) as server:
            server.wait_for("homespun is ready", timeout=60)
            yield server

    @contextmanager
    def working(self, name: str, *flags: str) -> Iterator[Running]:
        words = ("worker", "--data-dir=data", f"--server-url={self.url}", f"--name={name}", *flags)
        with running(*words, cwd=self.root) as worker:
            yield worker

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def jobs(self, *words: str) -> Any:
        done = homespun("jobs", *words, "--json", f"--server-url={self.url}", cwd=self.root)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def await_job(self, id: int, is_so: Callable[[dict[str, Any]], bool], timeout_s: float = 60) -> dict[str, Any]:
        deadline = time.monotonic() + timeout_s
        while not is_so(job := self.jobs("show", str(id))):
            assert time.monotonic() < deadline, job
        return dict(job)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Its server runs for all tests that leave it alone."""
    made = Site(tmp_path_factory.mktemp("site"))
    with made.serving():
        yield made


@pytest.fixture
def forge() -> Iterator[HangingForge]:
    made = HangingForge()
    yield made
    made.close()


def test_another_worker_takes_over_from_one_that_was_killed(site: Site, forge: HangingForge) -> None:
    job = site.jobs("add", "index", forge.url)
    with site.working("first") as first:
        first.wait_for(f"job {job['id']}: index", timeout=30)
        _await(lambda: forge.num_clients == 1)
        child = _child_of(first.process.pid)
        first.process.kill()
        first.process.wait()
    _await(lambda: not is_running(child))
    with site.working("second") as second:
        second.wait_for(f"job {job['id']}: index", timeout=30)
        taken = site.await_job(job["id"], lambda now: now["state"] == "running")
        assert (taken["worker"], taken["attempts"]) == ("second:index", 2)
        site.jobs("cancel", str(job["id"]))


def test_a_worker_that_was_given_up_and_comes_back_drops_its_work(site: Site, forge: HangingForge) -> None:
    job = site.jobs("add", "index", forge.url)
    with site.working("zombie") as zombie, site.working("other", "--kinds=train") as idle:
        idle.wait_for("asks", timeout=30)
        zombie.wait_for(f"job {job['id']}: index", timeout=30)
        _await(lambda: forge.num_clients == 1)
        zombie.process.send_signal(signal.SIGSTOP)
        site.await_job(job["id"], lambda now: now["state"] == "queued")
        zombie.process.send_signal(signal.SIGCONT)
        zombie.wait_for("what it did is dropped", timeout=30)


def test_a_worker_outlives_its_server_and_reports_to_the_next_one(tmp_path: Path, forge: HangingForge) -> None:
    site = Site(tmp_path)
    with ExitStack() as stack:
        with site.serving() as server:
            job = site.jobs("add", "index", forge.url)
            worker = stack.enter_context(site.working("first", "--kinds=index"))
            _await(lambda: forge.num_clients == 1)
            server.process.kill()
            server.process.wait()
        worker.wait_for("no server answers", timeout=30)
        forge.close()  # the clone fails, and there is nobody to tell
        with site.serving():
            assert "127.0.0.1" in worker.wait_for(f"job {job['id']}: failed", timeout=30)
            assert site.jobs("show", str(job["id"]))["attempts"] >= 1


def test_sigterm_gives_the_job_back_and_cancelling_stops_it(site: Site, forge: HangingForge) -> None:
    job = site.jobs("add", "index", forge.url)
    with site.working("first") as first:
        _await(lambda: forge.num_clients == 1)
        first.process.send_signal(signal.SIGTERM)
        assert first.process.wait(30) == 0
    waiting = site.jobs("show", str(job["id"]))
    assert (waiting["state"], waiting["attempts"]) == ("queued", 0)
    with site.working("second"):
        _await(lambda: forge.num_clients == 1)
        assert site.jobs("cancel", str(job["id"]))["is_unwanted"]
        site.await_job(job["id"], lambda now: now["state"] == "cancelled")
        _await(lambda: forge.num_clients == 0)


@pytest.mark.timeout(280)
def test_sigterm_in_training_saves_a_checkpoint_and_gives_the_job_back(site: Site) -> None:
    make_company(site.root / "loomworks")
    job = site.jobs("add", "train", str(site.root / "loomworks"))
    with site.working("first", "--kinds=train", "--eval-tasks=20") as worker:
        site.await_job(job["id"], lambda now: "training" in now["words"].lower(), timeout_s=200)
        worker.process.send_signal(signal.SIGTERM)
        assert worker.process.wait(60) == 0
    waiting = site.jobs("show", str(job["id"]))
    assert (waiting["state"], waiting["attempts"]) == ("queued", 0)
    assert list((site.root / "data" / "runs").glob("*/CURRENT"))
    site.jobs("cancel", str(job["id"]))


def test_an_index_job_says_what_went_in(site: Site) -> None:
    make_repo(site.root / "shop", {"secret_canary.py": "def canary_zebra():\n    return 'canary_zebra'\n" * 20})
    with site.working("w"):
        job = site.jobs("add", "index", str(site.root / "shop"))
        done = site.await_job(job["id"], lambda now: now["state"] == "done")
        assert "1 files" in done["result"]
        followed = homespun("jobs", "log", str(job["id"]), "--follow", f"--server-url={site.url}", cwd=site.root)
        assert "1 of 1 files" in followed.stdout and "canary_zebra" not in followed.stdout


def _child_of(pid: int) -> int:
    """The verb that a worker runs, in whichever of its threads."""
    (child,) = (int(word) for tasks in Path(f"/proc/{pid}/task").iterdir() for word in _children(tasks))
    return child


def _children(task: Path) -> list[str]:
    return (task / "children").read_text().split()


def _await(is_so: Callable[[], bool], timeout_s: float = 30) -> None:
    deadline = time.monotonic() + timeout_s
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.05)
