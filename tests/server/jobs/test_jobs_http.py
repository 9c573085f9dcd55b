"""The queue over HTTP: workers with their token, people with a role, and a database that may go away."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from starlette.types import Message, Receive, Scope, Send

from homespun_core import fences
from homespun_core.config import Settings
from homespun_core.fences import FENCE, Lease
from homespun_core.paths import DataDir, repo_id
from homespun_core.repositories import RepositoryConfig
from homespun_core.scopes import ScopeConfig
from homespun_core.types import ModelFiles
from homespun_server.access import audit
from homespun_server.access.audit import Actor
from homespun_server.access.changing import changing
from homespun_server.access.decisions import Guarded
from homespun_server.app import build_app
from homespun_server.jobs import admin
from homespun_server.jobs.queue import TOKEN_FILE, Queue
from homespun_server.jobs.targets import Targets
from tests.postgres import Cluster

_MODEL = ModelFiles(name="none", path="", family=None, digest="", config={})
SHOP = RepositoryConfig(source="https://ann:secret@git.example.com/team/shop.git", name="shop")
SHOP_ID = repo_id(SHOP.source)
TEAM = ScopeConfig(name="team", repositories=(SHOP,))


class Site:
    def __init__(self, data: DataDir, **settings: Any) -> None:
        self.data = data
        targets = Targets(data, [SHOP], [TEAM])
        self.app: FastAPI = build_app(Settings(data_dir=str(data.root), **settings), _MODEL, targets=targets)
        self.token = (data.root / TOKEN_FILE).read_text().strip()

    @property
    def queue(self) -> Queue:
        queue = self.app.state.jobs
        assert isinstance(queue, Queue)
        return queue

    async def call(self, method: str, path: str, body: Any = None, token: str | None = None) -> httpx.Response:
        transport = httpx.ASGITransport(self.app, raise_app_exceptions=False)
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8080") as client:
            return await client.request(method, f"/v1/homespun{path}", json=body, headers=headers)

    async def work(self, what: str, body: Any) -> httpx.Response:
        return await self.call("POST", f"/jobs/{what}", body, self.token)

    async def add(self, kind: str = "index", repository: str = "shop") -> dict[str, Any]:
        answer = await self.call("POST", "/admin/jobs", {"kind": kind, "repository": repository})
        assert answer.status_code == 201, answer.text
        return dict(answer.json())

    async def lease(self, worker: str = "w", kinds: tuple[str, ...] = ("index", "train")) -> dict[str, Any]:
        answer = await self.work("lease", {"worker": worker, "kinds": kinds})
        assert answer.status_code == 200, answer.text
        return dict(answer.json())


@pytest.fixture
def site(tmp_path: Path, database_url: str) -> Iterator[Site]:
    made = Site(DataDir(tmp_path / "data"), database_url=database_url)
    yield made
    made.app.state.runtime.close()


async def test_who_starts_workers_hears_how_many_jobs_are_due(site: Site) -> None:
    await site.add("train")
    answer = await site.call("GET", "/jobs/due?kind=train&kind=evaluate", token=site.token)
    assert (answer.status_code, answer.json()) == (200, {"due": 1, "running": []})
    assert (await site.call("GET", "/jobs/due?kind=index", token=site.token)).json() == {"due": 0, "running": []}
    await site.lease()
    answer = await site.call("GET", "/jobs/due?kind=train", token=site.token)
    assert answer.json() == {"due": 0, "running": [{"repository": SHOP_ID, "worker": "w"}]}
    assert (await site.call("GET", "/jobs/due?kind=train")).status_code == 401


async def test_a_job_from_the_first_word_to_the_last(site: Site) -> None:
    added = await site.add()
    assert (added["repository"], added["source"], added["state"]) == (SHOP_ID, "shop", "queued")
    job = await site.lease()
    assert job["id"] == added["id"]
    sign = {"job": job["id"], "fence": job["fence"], "fraction": 0.5, "words": "files: 5 of 10", "log": ["a", "b"]}
    assert (await site.work("heartbeat", sign)).json() == {"is_unwanted": False}
    (shown,) = (await site.call("GET", "/admin/jobs?state=running")).json()["jobs"]
    assert (shown["fraction"], shown["words"]) == (0.5, "files: 5 of 10")
    told = {"job": job["id"], "fence": job["fence"], "ending": "done", "result": "5 files", "log": ["c"]}
    assert (await site.work("report", told)).json()["state"] == "done"
    assert (await site.call("GET", f"/admin/jobs/{job['id']}")).json()["result"] == "5 files"
    assert (await site.call("GET", f"/admin/jobs/{job['id']}/log")).json() == {"log": "a\nb\nc\n"}
    assert (await site.work("lease", {"worker": "w", "kinds": ["index"]})).status_code == 204


async def test_workers_show_their_token_and_nobody_elses_will_do(site: Site) -> None:
    for token in (None, "", "wrong", site.token + "x"):
        for what in ("lease", "heartbeat", "report", "ask"):
            assert (await site.call("POST", f"/jobs/{what}", {}, token)).status_code == 401
        assert (await site.call("GET", "/jobs/1", token=token)).status_code == 401
    assert (site.data.root / TOKEN_FILE).stat().st_mode & 0o777 == 0o600


async def test_nothing_is_read_of_whoever_has_no_token(site: Site) -> None:
    """Before the answer; what comes of it afterwards is dropped, so that the client sees the answer."""
    num_read, read_at_answer = 0, []

    async def body() -> AsyncIterator[bytes]:
        nonlocal num_read
        for _ in range(50):
            num_read += 1
            yield b"[" * 50_000

    async def watched(scope: Scope, receive: Receive, send: Send) -> None:
        async def noting(message: Message) -> None:
            if message["type"] == "http.response.start":
                read_at_answer.append(num_read)
            await send(message)

        await site.app(scope, receive, noting)

    transport = httpx.ASGITransport(watched, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8080/v1/homespun/jobs") as client:
        assert (await client.post("/lease", content=body())).status_code == 401
        num_read = 0
        client.headers["Authorization"] = f"Bearer {site.token}"
        answer = await client.post("/lease", content=body())
    assert answer.status_code == 413 and read_at_answer == [0, 21], (answer.text, read_at_answer)


async def test_the_token_of_workers_opens_no_other_door(tmp_path: Path) -> None:
    site = Site(DataDir(tmp_path / "data"), api_token="people's")
    assert (await site.call("GET", "/admin/jobs", token=site.token)).status_code == 401
    assert (await site.call("GET", "/admin/jobs", token="people's")).status_code == 200
    assert (await site.work("lease", {"worker": "w", "kinds": ["index"]})).status_code == 204
    assert (await site.call("POST", "/jobs/lease", {"worker": "w", "kinds": ["index"]}, "people's")).status_code == 401
    site.app.state.runtime.close()


async def test_a_worker_waits_for_a_job_that_comes_meanwhile(site: Site) -> None:
    waiting = asyncio.create_task(site.work("lease", {"worker": "w", "kinds": ["train"], "wait_s": 20}))
    await asyncio.sleep(0.1)
    added = await site.add("train")
    assert (await waiting).json()["id"] == added["id"]


async def test_waiting_ends_with_the_server(site: Site) -> None:
    waiting = asyncio.create_task(site.work("lease", {"worker": "w", "kinds": ["train"], "wait_s": 30}))
    await asyncio.sleep(0.1)
    site.app.state.is_stopping = lambda: True
    assert (await waiting).status_code == 204


async def test_before_a_worker_hears_of_its_lease_the_fence_is_up(site: Site) -> None:
    await site.add("index")
    await site.add("train")
    await site.add("train", "team")
    for _ in range(3):
        job = await site.lease(worker=f"w{_}")
        folder = {"index": site.data.index, "train": site.data.adapters}[job["kind"]](job["repository"])
        assert (folder / FENCE).read_bytes() == Lease(job["kind"], job["fence"]).line()
    assert job["source"] == "team" and job["repository"] == TEAM.id


async def test_one_fence_that_cannot_be_raised_holds_up_its_own_job_only(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fences, "_PATIENCE_S", 0.0)
    await site.add("train")
    await site.add("index")
    fences.raise_fence(site.data.adapters(SHOP_ID), Lease("train", 1))
    fences.work_under(Lease("train", 1))
    try:
        with fences.passing(site.data.adapters(SHOP_ID)):
            assert (await site.work("lease", {"worker": "w", "kinds": ["train"]})).status_code == 204
            assert (await site.lease())["kind"] == "index"
    finally:
        fences.work_under(None)
    (waiting,) = (await site.call("GET", "/admin/jobs?state=queued")).json()["jobs"]
    assert "has been publishing" in waiting["reason"] and waiting["attempts"] == 0


async def test_a_lease_that_has_ended_is_a_conflict(site: Site) -> None:
    await site.add()
    job = await site.lease("up")
    await site.work("lease", {"worker": "up", "kinds": ["index"]})  # it was started again
    sign = {"job": job["id"], "fence": job["fence"]}
    assert (await site.work("heartbeat", sign)).status_code == 409
    answer = await site.work("report", sign | {"ending": "done"})
    assert answer.status_code == 409 and "this lease has ended" in answer.json()["error"]["message"]


async def test_cancelling_and_trying_again(site: Site) -> None:
    job = await site.add()
    url = f"/admin/jobs/{job['id']}"
    assert (await site.call("POST", f"{url}/cancel")).json()["reason"] == "cancelled by local"
    assert (await site.call("POST", f"{url}/cancel")).status_code == 409
    assert (await site.call("POST", f"{url}/retry")).json()["state"] == "queued"
    running = await site.lease()
    assert (await site.call("POST", f"{url}/cancel")).json()["is_unwanted"]
    sign = {"job": running["id"], "fence": running["fence"]}
    assert (await site.work("heartbeat", sign)).json() == {"is_unwanted": True}


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/admin/jobs/999", 404),
        ("/admin/jobs/99999999999999999999", 404),
        ("/admin/jobs/x", 400),
        ("/admin/jobs/-1", 404),
    ],
)
async def test_jobs_that_are_not_there(site: Site, path: str, status: int) -> None:
    assert (await site.call("GET", path)).status_code == status


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"kind": "notify", "repository": "shop"},
        {"kind": "index", "repository": ""},
        {"kind": "index", "repository": "  "},
        {"kind": "index", "repository": "shop", "commit": "--upload-pack=x"},
        {"kind": "index", "repository": "shop", "surprise": 1},
    ],
)
async def test_what_makes_no_job(site: Site, body: Any) -> None:
    assert (await site.call("POST", "/admin/jobs", body)).status_code == 400


async def test_no_credentials_stand_in_a_job(site: Site) -> None:
    for word in ("shop", SHOP.source, SHOP_ID, "https://bob:hunter2@git.example.com/other.git"):
        answer = await site.add(repository=word)
        assert "secret" not in json.dumps(answer) and "hunter2" not in json.dumps(answer)


async def test_the_workers_that_are_there_are_listed(site: Site) -> None:
    await site.work("lease", {"worker": "w", "kinds": ["train", "index"]})
    (worker,) = (await site.call("GET", "/admin/jobs")).json()["workers"]
    assert (worker["name"], worker["kinds"]) == ("w", ["index", "train"])


async def test_changes_are_told_as_they_come(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admin, "LASTS_S", 60.0)
    await site.add()

    async def soon() -> None:
        await asyncio.sleep(0.3)
        job = await site.lease()
        await site.work("report", {"job": job["id"], "fence": job["fence"], "ending": "done"})
        await asyncio.sleep(1.5)
        site.app.state.is_stopping = lambda: True

    other = asyncio.create_task(soon())
    answer = await site.call("GET", "/admin/jobs/events")
    await other
    told = [json.loads(line.removeprefix("data: ")) for line in answer.text.splitlines() if line.startswith("data: ")]
    assert [jobs[0]["state"] for jobs in told] == ["queued", "done"]
    assert answer.headers["content-type"].startswith("text/event-stream")


async def test_a_stream_ends_so_that_whoever_was_turned_out_hears_no_more(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(admin, "LASTS_S", 0.0)
    answer = await site.call("GET", "/admin/jobs/events")
    assert answer.status_code == 200 and answer.text == "retry: 250\n\n"


async def test_while_the_database_is_away_workers_are_told_to_come_back(tmp_path: Path, cluster: Cluster) -> None:
    """PostgreSQL dies in the middle and comes back: nothing is lost, and nothing had to be restarted."""
    site = Site(DataDir(tmp_path / "data"), database_url=cluster.new_database())
    await site.add()
    job = await site.lease()
    sign = {"job": job["id"], "fence": job["fence"]}
    cluster.kill()
    try:
        for what, body in (("lease", {"worker": "o", "kinds": ["index"]}), ("heartbeat", sign)):
            answer = await site.work(what, body)
            assert answer.status_code == 503 and answer.headers["retry-after"]
            assert "database" in answer.json()["error"]["message"]
    finally:
        cluster.start()
    assert (await site.work("heartbeat", sign)).status_code == 200
    assert (await site.work("report", sign | {"ending": "done"})).json()["state"] == "done"
    site.app.state.runtime.close()


async def test_two_servers_on_one_database_give_a_job_once(tmp_path: Path, cluster: Cluster) -> None:
    url = cluster.new_database()
    sites = [Site(DataDir(tmp_path / "data"), database_url=url) for _ in range(2)]
    for n in range(6):
        await sites[0].add("index", f"/src/repo{n}")
    bodies = [{"worker": f"w{n}", "kinds": ["index"], "wait_s": 0.5} for n in range(12)]
    answers = await asyncio.gather(*(sites[n % 2].work("lease", body) for n, body in enumerate(bodies)))
    got = [answer.json()["id"] for answer in answers if answer.status_code == 200]
    assert sorted(got) == sorted({job["id"] for job in (await sites[0].call("GET", "/admin/jobs")).json()["jobs"]})
    for site in sites:
        site.app.state.runtime.close()


async def test_jobs_are_for_those_who_manage_repositories_and_may_read_them(site: Site) -> None:
    runtime = site.app.state.runtime
    by = Actor(id="cli:test", origin="cli")
    tokens = {}
    with changing(runtime.database, by) as change:
        for name, role in (("dev", "developer"), ("ann", "repo-admin"), ("root", "admin")):
            user = change.add_user(name, role=role)  # type: ignore[arg-type]  # roles all three
            tokens[name] = change.add_token(user, "test", scopes=["admin", "index:read"]).text
    runtime.lookup.look()
    job = (await site.call("POST", "/admin/jobs", {"kind": "index", "repository": "shop"}, tokens["root"])).json()
    assert job["asked_by"] == "root"
    url = f"/admin/jobs/{job['id']}"
    for method, path in (
        ("GET", "/admin/jobs"),
        ("GET", url),
        ("POST", f"{url}/cancel"),
        ("GET", "/admin/jobs/events"),
    ):
        assert (await site.call(method, path, token=tokens["dev"])).status_code == 403
    assert (await site.call("GET", "/admin/jobs", token=tokens["ann"])).json()["jobs"] == []
    for method, path in (("GET", url), ("GET", f"{url}/log"), ("POST", f"{url}/cancel"), ("POST", f"{url}/retry")):
        assert (await site.call(method, path, token=tokens["ann"])).status_code == 404
    said = set()
    for word in ("shop", "/etc", "nothing"):
        asked = await site.call("POST", "/admin/jobs", {"kind": "index", "repository": word}, tokens["ann"])
        said.add((asked.status_code, asked.text))
    assert len(said) == 1 and said.pop()[0] == 404  # nobody learns which of them are there
    assert (await site.call("POST", f"{url}/cancel", token=tokens["root"])).json()["state"] == "cancelled"
    with runtime.database.connect() as connection:
        noted = [(entry.action, entry.object) for entry in audit.entries(connection)]
    assert ("job.add", "index shop") in noted and ("job.cancel", str(job["id"])) in noted


@pytest.mark.parametrize("reads_all", [False, True])
async def test_jobs_of_a_shared_adapter_are_for_those_who_may_read_all_of_it(site: Site, reads_all: bool) -> None:
    """Its log tells of each of its repositories."""
    runtime = site.app.state.runtime
    there = (Guarded(id=TEAM.id, is_adapter=True), Guarded(id=SHOP_ID))
    runtime.lookup._repositories = lambda: there
    with changing(runtime.database, Actor(id="cli:test", origin="cli")) as change:
        change.add_user("root", role="admin")
        ann = change.add_user("ann", role="repo-admin")
        change.grant(ann, SHOP_ID if reads_all else "another")
        token = change.add_token(ann, "test", scopes=["admin"]).text
    runtime.lookup.look()
    job = site.queue.ask("train", "team", asked_by="root", known=True)
    url, asked = f"/admin/jobs/{job.id}", {"kind": "train", "repository": "team"}
    listed = (await site.call("GET", "/admin/jobs", token=token)).json()["jobs"]
    named = (await site.call("GET", f"/admin/jobs?repository={TEAM.id}", token=token)).json()["jobs"]
    assert [len(listed), len(named)] == ([1, 1] if reads_all else [0, 0])
    for method, path, body in (("GET", url, None), ("GET", f"{url}/log", None), ("POST", "/admin/jobs", asked)):
        assert (await site.call(method, path, body, token)).is_success == reads_all, path
    headers = {"Authorization": f"Bearer {token}"}
    transport = httpx.ASGITransport(site.app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8080", headers=headers) as browser:
        assert (f"/console/jobs/{job.id}" in (await browser.get("/console/jobs")).text) == reads_all
        assert (await browser.get(f"/console/jobs/{job.id}")).is_success == reads_all
        fields, own = {"change": "cancel"}, {"sec-fetch-site": "same-origin"}
        answer = await browser.post(f"/console/jobs/{job.id}", data=fields, headers=own)
        assert answer.status_code == (303 if reads_all else 404)
