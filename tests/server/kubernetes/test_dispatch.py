"""Jobs for what waits: how many, through an API server that keeps them, from the server's real queue."""

from __future__ import annotations

import json
import re
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
import trustme
from hypothesis import given
from hypothesis import strategies as st

from homespun_core.cli import main
from homespun_core.errors import ConfigError, ServiceError
from homespun_server.kubernetes import cluster
from homespun_server.kubernetes.cluster import Address, Jobs, missing, num_busy, read_template, unfinished
from tests.server.test_process import serving

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


@given(st.integers(0, 50), st.integers(0, 50), st.integers(0, 50), st.integers(1, 50))
def test_there_are_never_more_jobs_than_work_or_than_allowed_because_of_us(
    due: int, idle: int, busy: int, most: int
) -> None:
    made = missing(due, idle + busy, busy, most)
    assert made == 0 or (idle + made <= due and idle + busy + made <= most)
    assert idle + made >= due or idle + busy + made >= most, "and never fewer"


def test_what_has_ended_makes_room_and_what_kueue_holds_back_does_not() -> None:
    def job(name: str, **status: object) -> dict[str, Any]:
        return {"metadata": {"name": name}, **status}

    def then(name: str, condition: str) -> dict[str, Any]:
        return job(name, status={"conditions": [{"type": condition, "status": "True"}]})

    over = [then("a", "Complete"), then("b", "Failed")]
    assert unfinished(over) == []
    assert unfinished([*over, then("c", "Suspended"), job("d", status={}), job("e")]) == ["c", "d", "e"]


def test_a_job_is_at_work_when_a_worker_of_its_pod_is() -> None:
    jobs = ["demo-trainer-1", "demo-trainer-2", "x" * 63]
    assert num_busy(jobs, ["demo-trainer-1-8xkf2:7:train", "demo-trainer-22-abcde:7:train", "laptop:99:train"]) == 1
    assert num_busy(jobs, ["x" * 57 + "-abcde:7:train"]) == 1, "pods of long names have a part of them"


def test_a_job_is_made_in_the_pods_namespace_and_found_again_by_its_labels(api: ApiServer) -> None:
    with jobs_of(api) as jobs:
        assert jobs.unfinished() == []
        assert jobs.make() == "demo-trainer-0"
        api.jobs.append({"metadata": {"name": "x", "labels": LABELS | {"app.kubernetes.io/instance": "another"}}})
        assert jobs.unfinished() == ["demo-trainer-0"]
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


def test_outside_of_a_cluster_it_says_so() -> None:
    with pytest.raises(ConfigError, match="runs in Kubernetes only"):
        Address.of_this_pod({})


def test_a_pods_account_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "ACCOUNT", tmp_path)
    (tmp_path / "token").write_text("secret\n")
    (tmp_path / "namespace").write_text("code")
    environ = {"KUBERNETES_SERVICE_HOST": "fd00::1", "KUBERNETES_SERVICE_PORT": "443"}
    found = Address.of_this_pod(environ)
    assert (found.url, found.namespace, found.token) == ("https://[fd00::1]:443", "code", "secret")


@pytest.mark.parametrize("text", ["", "[]", '{"kind": "Pod"}', '{"kind": "Job", "metadata": {"name": "x"}}'])
def test_another_thing_than_a_job_is_refused_by_name(tmp_path: Path, text: str) -> None:
    file = tmp_path / "job.json"
    file.write_text(text)
    with pytest.raises(ConfigError, match="not a Kubernetes Job"):
        read_template(file)


@pytest.fixture
def pod(api: ApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """We are one: with an account, and an API over TLS whose authority only the account names. The template's file."""
    authority, context = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    api.socket = context.wrap_socket(api.socket, server_side=True)
    authority.cert_pem.write_to_path(str(tmp_path / "ca.crt"))
    (tmp_path / "token").write_text("a-token")
    (tmp_path / "namespace").write_text("code")
    monkeypatch.setattr(cluster, "ACCOUNT", tmp_path)
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", str(api.server_port))
    template = tmp_path / "job.json"
    template.write_text(json.dumps(TEMPLATE))
    return template


def test_each_training_that_waits_gets_one_job_however_often_it_looks(
    api: ApiServer, pod: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with serving(tmp_path / "data", "--port", "0") as server:
        url = server.wait_until_ready()
        words = ["dispatch", "--template", str(pod), "--data-dir", str(tmp_path / "data"), "--server-url", url]
        assert main([*words, "--most", "2"]) == 0 and api.jobs == []
        for name, number_made in (("shop", 1), ("loom", 2), ("depot", 2)):
            wanted = {"kind": "train", "repository": f"https://git.example.com/team/{name}.git"}
            assert httpx.post(f"{url}/v1/homespun/admin/jobs", json=wanted).status_code == 201
            for _ in range(2):
                assert main([*words, "--most", "2"]) == 0
                assert len(api.jobs) == number_made
        api.jobs[0]["status"] = {"conditions": [{"type": "Complete", "status": "True"}]}
        assert main([*words, "--most", "2"]) == 0 and len(api.jobs) == 3
        at_work = {"worker": "demo-trainer-1-8xkf2:7:train", "kinds": ["train"]}
        token = (tmp_path / "data" / "worker.token").read_text().strip()
        leased = httpx.post(f"{url}/v1/homespun/jobs/lease", json=at_work, headers={"Authorization": f"Bearer {token}"})
        assert leased.status_code == 200
        for _ in range(2):  # two wait and one runs: a third Job, and no fourth
            assert main([*words, "--most", "3"]) == 0 and len(api.jobs) == 4
        assert main([*words, "--most", "9"]) == 0 and len(api.jobs) == 4
    said = capfd.readouterr().err
    assert "3 due, 1 Jobs were there, 0 of them at work" in said
    assert "2 due, 2 Jobs were there, 1 of them at work" in said
