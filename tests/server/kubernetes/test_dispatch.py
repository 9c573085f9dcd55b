"""Jobs for what waits: how many, through an API server that keeps them, from the server's real queue."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homespun_core.errors import ConfigError, ServiceError
from homespun_server.kubernetes.cluster import Address, Jobs, missing, read_template, unfinished

LABELS = {"app.kubernetes.io/instance": "demo", "app.kubernetes.io/component": "trainer"}
TEMPLATE: dict[str, Any] = {"kind": "Job", "metadata": {"generateName": "demo-trainer-", "labels": LABELS}, "spec": {}}


class ApiServer(ThreadingHTTPServer):
    """Of Kubernetes, as far as lists and new Jobs go."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.jobs: list[dict[str, Any]] = []
        self.seen: list[tuple[str | None, str]] = []
        self.is_forbidden = False

    @property
    def address(self) -> Address:
        return Address(url=f"http://127.0.0.1:{self.server_port}", namespace="code", token="a-token", ca_file=None)


class _Handler(BaseHTTPRequestHandler):
    server: ApiServer

    def do_GET(self) -> None:
        selector = parse_qs(urlsplit(self.path).query)["labelSelector"][0]
        wanted = dict(part.split("=") for part in selector.split(","))
        self._answer(200, {"items": [j for j in self.server.jobs if wanted.items() <= j["metadata"]["labels"].items()]})

    def do_POST(self) -> None:
        job = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        job["metadata"]["name"] = f"{job['metadata']['generateName']}{len(self.server.jobs)}"
        self.server.jobs.append(job)
        self._answer(201, job)

    def _answer(self, status: int, body: Any) -> None:
        self.server.seen.append((self.headers["Authorization"], urlsplit(self.path).path))
        if self.server.is_forbidden:
            status, body = 403, {"message": "jobs.batch is forbidden"}
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def api() -> Iterator[ApiServer]:
    server = ApiServer()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@contextmanager
def jobs_of(api: ApiServer) -> Iterator[Jobs]:
    jobs = Jobs(api.address, TEMPLATE)
    yield jobs
    jobs.close()


@given(st.integers(0, 50), st.integers(0, 50), st.integers(1, 50))
def test_there_are_never_more_jobs_than_work_or_than_allowed_because_of_us(due: int, there: int, most: int) -> None:
    made = missing(due, there, most)
    assert made == 0 or (there + made == min(due, most))
    assert there + made >= min(due, most)


def test_what_has_ended_makes_room_and_what_kueue_holds_back_does_not() -> None:
    def job(condition: str) -> dict[str, Any]:
        return {"status": {"conditions": [{"type": condition, "status": "True"}]}}

    over, held = [job("Complete"), job("Failed")], [job("Suspended"), {"status": {}}, {}]
    assert unfinished(over) == 0 and unfinished(over + held) == 3


def test_a_job_is_made_in_the_pods_namespace_and_found_again_by_its_labels(api: ApiServer) -> None:
    with jobs_of(api) as jobs:
        assert jobs.unfinished() == 0
        assert jobs.make() == "demo-trainer-0"
        api.jobs.append({"metadata": {"labels": LABELS | {"app.kubernetes.io/instance": "another"}}})
        assert jobs.unfinished() == 1
    assert set(api.seen) == {("Bearer a-token", "/apis/batch/v1/namespaces/code/jobs")}


def test_a_refusal_is_one_line_with_the_reason_and_the_remedy(api: ApiServer) -> None:
    api.is_forbidden = True
    with jobs_of(api) as jobs, pytest.raises(ServiceError, match=r"jobs\.batch is forbidden; the service account"):
        jobs.make()


def test_a_cluster_that_is_not_there_is_one_line() -> None:
    jobs = Jobs(Address(url="http://127.0.0.1:9", namespace="n", token="t", ca_file=None), TEMPLATE)
    with pytest.raises(ServiceError, match=re.escape("can't be reached (ConnectError); is it in networkPolicy")):
        jobs.unfinished()
    jobs.close()


def test_outside_of_a_cluster_it_says_so(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="runs in Kubernetes only"):
        Address.of_this_pod({}, tmp_path)


def test_a_pods_account_is_read(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("secret\n")
    (tmp_path / "namespace").write_text("code")
    environ = {"KUBERNETES_SERVICE_HOST": "fd00::1", "KUBERNETES_SERVICE_PORT": "443"}
    found = Address.of_this_pod(environ, tmp_path)
    assert (found.url, found.namespace, found.token) == ("https://[fd00::1]:443", "code", "secret")


@pytest.mark.parametrize("text", ["", "[]", '{"kind": "Pod"}', '{"kind": "Job", "metadata": {"name": "x"}}'])
def test_another_thing_than_a_job_is_refused_by_name(tmp_path: Path, text: str) -> None:
    file = tmp_path / "job.json"
    file.write_text(text)
    with pytest.raises(ConfigError, match="not a Kubernetes Job"):
        read_template(file)
