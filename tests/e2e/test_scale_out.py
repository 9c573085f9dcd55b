"""Two gateways, two workers and PostgreSQL on one data directory: what either knows the other does, and nothing depends
on one of them. benchmarks/scale_out.py does the same under load, with engines apart and a network for each process.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.e2e.command import Running, homespun, running
from tests.e2e.served import EXPECTED, PREFIX, SUFFIX, company
from tests.e2e.test_jobs import HangingForge, free_port
from tests.postgres import Cluster, Unavailable
from tests.repos import commit

pytestmark = pytest.mark.e2e


class Site:
    def __init__(self, root: Path) -> None:
        self.root = root
        self.urls = [f"http://127.0.0.1:{free_port()}" for _ in range(2)]
        self.client = httpx.Client(timeout=30, trust_env=False)

    @contextmanager
    def gateway(self, number: int) -> Iterator[Running]:
        flags = ["--data-dir=data", f"--port={self.urls[number].rpartition(':')[2]}", "--job-lease-s=2"]
        with running("serve", *flags, "--retrieve-deadline-ms=5000", cwd=self.root) as gateway:
            yield gateway

    @contextmanager
    def worker(self, name: str, gateway: int) -> Iterator[Running]:
        flags = ["--data-dir=data", f"--server-url={self.urls[gateway]}", f"--name={name}", "--kinds=index"]
        with running("worker", *flags, cwd=self.root) as worker:
            yield worker

    def call(self, gateway: int, method: str, path: str, body: Any = None) -> Any:
        answer = self.client.request(method, f"{self.urls[gateway]}/v1/homespun/admin/jobs{path}", json=body)
        assert answer.is_success, answer.text
        return answer.json()

    def add(self, gateway: int, repository: str) -> dict[str, Any]:
        return dict(self.call(gateway, "POST", "", {"kind": "index", "repository": repository}))

    def await_job(self, gateway: int, id: int, is_so: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        deadline = time.monotonic() + 60
        while not is_so(job := self.call(gateway, "GET", f"/{id}")):
            assert time.monotonic() < deadline, job
            time.sleep(0.05)
        return dict(job)

    def completion(self, gateway: int) -> str:
        body = {"prompt": PREFIX, "suffix": SUFFIX, "max_tokens": 16, "temperature": 0}
        answer = self.client.post(f"{self.urls[gateway]}/v1/completions", json=body)
        assert answer.status_code == 200, answer.text
        return str(answer.json()["choices"][0]["text"])

    def commits(self, gateway: int) -> str:
        return json.dumps(self.client.get(f"{self.urls[gateway]}/readyz").json())

    def await_commit(self, gateway: int, id: str) -> None:
        deadline = time.monotonic() + 30
        while id not in self.commits(gateway):
            assert time.monotonic() < deadline, self.commits(gateway)
            time.sleep(0.05)


@pytest.fixture
def postgres() -> Iterator[Cluster]:
    """Its own: it is killed."""
    try:
        started = Cluster()
    except Unavailable as reason:
        pytest.skip(f"no PostgreSQL: {reason}")
    yield started
    started.close()


@pytest.fixture
def forge() -> Iterator[HangingForge]:
    made = HangingForge()
    yield made
    made.close()


@pytest.mark.timeout(300)  # 19 s of processor time: six processes start
def test_a_gateway_a_worker_and_the_database_may_go_and_nothing_is_lost_or_done_twice(
    tmp_path: Path, postgres: Cluster, forge: HangingForge, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOMESPUN_DATABASE_URL", postgres.new_database())
    repository = company(tmp_path)
    assert homespun("index", "loomworks", "--data-dir=data", cwd=tmp_path).returncode == 0
    site = Site(tmp_path)
    with ExitStack() as stack:
        first, second = (stack.enter_context(site.gateway(n)) for n in (0, 1))  # at once: one of them makes the tables
        for started in (first, second):
            started.wait_for("homespun is ready", timeout=60)
        assert site.completion(0) == site.completion(1) == EXPECTED
        one, two = (stack.enter_context(site.worker(name, n)) for n, name in enumerate(("one", "two")))
        for worker in (one, two):
            worker.wait_for("asks", timeout=30)

        # What is asked of one gateway is done through the other, and both serve it.
        pushed = commit(repository, {"loomworks/yarns.py": "def yarn() -> None:\n    spin()\n"}, "yarns")
        job = site.add(0, str(repository))
        assert site.add(1, str(repository))["id"] in (job["id"], job["id"] + 1)  # one waits and one runs at most
        site.await_job(1, job["id"], lambda now: now["state"] == "done")
        for gateway in (0, 1):
            site.await_commit(gateway, pushed)

        # A worker dies with its lease: the other one has the job, through the other gateway.
        hanging = site.add(0, forge.url)
        taken = site.await_job(0, hanging["id"], lambda now: now["state"] == "running")
        holder, name = (one, "two") if taken["worker"].startswith("one:") else (two, "one")
        holder.process.kill()
        again = site.await_job(1, hanging["id"], lambda now: now["state"] == "running" and now["attempts"] == 2)
        assert again["worker"] == f"{name}:index"
        site.call(1, "POST", f"/{hanging['id']}/cancel")

        # The database dies: completions go on, and so do jobs when it is there again.
        postgres.kill()
        assert site.completion(0) == site.completion(1) == EXPECTED
        postgres.start()

        # A gateway dies: the other one serves, and its worker works.
        (first if name == "two" else second).process.kill()
        left = 1 if name == "two" else 0
        pushed = commit(repository, {"loomworks/dyes.py": "def dye() -> None:\n    mix()\n"}, "dyes")
        last = site.add(left, str(repository))
        site.await_job(left, last["id"], lambda now: now["state"] == "done")
        site.await_commit(left, pushed)
        assert site.completion(left) == EXPECTED
        done = [line for worker in (one, two) for line in worker.lines if line.endswith(": done")]
        assert len(done) == len(set(done))
    site.client.close()
