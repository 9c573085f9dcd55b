"""Hooks against the real application: genuine ones nudge, all others do nothing."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from homespun_core import nudges, storage
from homespun_core.config import Settings
from homespun_core.paths import DataDir, repo_id
from homespun_core.storage import Manifest
from homespun_core.types import ModelFiles
from homespun_indexer import snapshot
from homespun_server.app import build_app
from homespun_server.hooks import routes
from homespun_server.hooks.receiver import Deliveries, Room, matching
from homespun_server.jobs.queue import Queue
from tests.server.hooks import deliveries
from tests.server.hooks.deliveries import CLONE, DELIVERIES, SECRET, Delivery

SHOP = repo_id(CLONE)
_MODEL = ModelFiles(name="none", path="", family=None, digest="", config={})


class Site:
    """The application, with hooks on, and what is indexed by name."""

    def __init__(self, data: DataDir, **settings: str) -> None:
        self.data = data
        values = {"webhook_secret": SECRET.decode(), **settings}
        self._app = build_app(Settings(data_dir=str(data.root), **values), _MODEL)  # type: ignore[arg-type]

    @property
    def queue(self) -> Queue:
        queue = self._app.state.jobs
        assert isinstance(queue, Queue)
        return queue

    def index(self, identity: str, repo: str, git_urls: str = "") -> None:
        """An index's manifest; of the rest hooks need nothing."""
        sources = {"repository": identity, "git_urls": git_urls}
        manifest = Manifest(kind=snapshot.KIND, format_version=snapshot.FORMAT, fingerprint="f", sources=sources)
        name = f"g{len(git_urls)}"
        with storage.publish_dir(self.data.index(repo) / name, manifest):
            pass
        storage.set_current(self.data.index(repo), name)

    @property
    def room(self) -> Room:
        room = self._app.state.hooks.room
        assert isinstance(room, Room)
        return room

    async def post_stream(self, delivery: Delivery, body: AsyncIterator[bytes]) -> httpx.Response:
        return await self.post(replace(delivery, body=body))  # type: ignore[arg-type]

    async def post(self, delivery: Delivery, path: str = "/hooks") -> httpx.Response:
        transport = httpx.ASGITransport(self._app)
        async with httpx.AsyncClient(transport=transport, base_url="http://homespun.example.com") as client:
            return await client.post(path, content=delivery.body, headers=delivery.headers)

    def is_nudged(self, repo: str = SHOP) -> bool:
        return nudges.stamp(self.data, repo) is not None


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setattr(time, "time", lambda: deliveries.NOW)
    made = Site(DataDir(tmp_path / "data"))
    made.index("git.example.com/team/shop", SHOP)
    yield made


@pytest.mark.parametrize("delivery", DELIVERIES, ids=lambda d: d.name)
async def test_a_genuine_push_nudges_its_repository(site: Site, delivery: Delivery) -> None:
    """Past the checks of Host and token too: a proxy passes the hook on under its own name."""
    response = await site.post(delivery)
    assert (response.status_code, response.json()) == (202, {"outcome": "nudged"})
    assert site.is_nudged()


@pytest.mark.parametrize("delivery", DELIVERIES, ids=lambda d: d.name)
async def test_a_forged_one_does_nothing(site: Site, delivery: Delivery) -> None:
    forged = dict.fromkeys(delivery.signatures, "v1,AAAA")
    response = await site.post(replace(delivery, headers=delivery.headers | forged))
    assert response.status_code == 401 and "HOMESPUN_WEBHOOK_SECRET" in response.json()["error"]["message"]
    assert not site.is_nudged()


@pytest.mark.parametrize("delivery", DELIVERIES, ids=lambda d: d.name)
async def test_a_replayed_one_does_nothing(site: Site, delivery: Delivery) -> None:
    await site.post(delivery)
    before = nudges.stamp(site.data, SHOP)
    assert (await site.post(delivery)).json() == {"outcome": "replayed"}
    assert nudges.stamp(site.data, SHOP) == before


async def test_a_delivery_that_comes_a_hundred_times_at_once_is_one_job_and_a_late_one_undoes_nothing(
    site: Site,
) -> None:
    """What is indexed is what the fetch finds, whichever delivery was the last to come."""
    site.index("git.example.com/team/shop", SHOP, git_urls=CLONE)
    newest = {"repository": {"clone_url": CLONE}, "after": "2" * 40}
    answers = await asyncio.gather(*(site.post(deliveries.github(newest, delivery="d2")) for _ in range(100)))
    assert {answer.status_code for answer in answers} == {202}
    assert [answer.json()["outcome"] for answer in answers].count("replayed") >= 90
    older = {"repository": {"clone_url": CLONE}, "after": "1" * 40}
    assert (await site.post(deliveries.github(older, delivery="d1"))).json() == {"outcome": "nudged"}
    (job,) = site.queue.store.jobs()
    assert (job.kind, job.repository) == ("index", SHOP)


async def test_a_thousand_pushes_are_one_job_where_nobody_watches(site: Site) -> None:
    site.index("git.example.com/team/shop", SHOP, git_urls=CLONE)
    with nudges.reading(site.data, SHOP):
        await site.post(deliveries.github())
    assert site.queue.store.jobs() == []
    for n in range(20):
        pushed = {"repository": {"clone_url": CLONE}, "after": f"{n:040x}", "n": n}
        assert (await site.post(deliveries.github(pushed, delivery=str(n)))).json() == {"outcome": "nudged"}
    (job,) = site.queue.store.jobs()
    assert (job.kind, job.repository, job.source) == ("index", SHOP, CLONE)
    assert (job.commit, job.asked_by) == (f"{19:040x}", "push")


async def test_a_signature_with_an_old_or_coming_time_is_refused(site: Site) -> None:
    for at in (deliveries.NOW - 301, deliveries.NOW + 301):
        assert (await site.post(deliveries.gitlab_signed(at))).status_code == 401
    assert (await site.post(deliveries.gitlab_signed(deliveries.NOW - 299))).status_code == 202


@pytest.mark.parametrize("body", [b"", b"[]", b"nonsense", b"{", b"\xff\xfe", b"[" * 100_000])
async def test_a_malformed_one_is_one_line(site: Site, body: bytes) -> None:
    headers = deliveries.github().headers | {"x-hub-signature-256": f"sha256={deliveries.signed(body)}"}
    response = await site.post(replace(deliveries.github(), headers=headers, body=body))
    assert response.status_code == 400 and "\n" not in response.json()["error"]["message"]


@pytest.mark.parametrize("payload", [b"", b"[]", b"nonsense", b"\xff\xfe"])
async def test_a_genuine_form_of_something_else_is_malformed(site: Site, payload: bytes) -> None:
    headers = deliveries.gitea().headers | {"x-gitea-signature": deliveries.signed(payload)}
    form = deliveries.in_form(replace(deliveries.gitea(), headers=headers, body=payload))
    assert (await site.post(form)).status_code == 400


async def test_a_form_of_githubs_without_a_payload_is_malformed(site: Site) -> None:
    body = b"other=%7B%7D"
    headers = deliveries.github_form().headers | {"x-hub-signature-256": f"sha256={deliveries.signed(body)}"}
    assert (await site.post(replace(deliveries.github_form(), headers=headers, body=body))).status_code == 400


async def test_one_about_another_repository_is_accepted_and_does_nothing(site: Site) -> None:
    """Its URL is never followed, however genuine the hook: only configured ones are fetched."""
    other = {"repository": {"clone_url": "https://evil.example.com/a/b.git", "full_name": "a/b"}}
    response = await site.post(deliveries.github(other))
    assert (response.status_code, response.json()) == (202, {"outcome": "unknown"})
    assert not (site.data.root / "nudges").exists() and not (site.data.root / "repos").exists()


async def test_other_events_and_nobodys_hooks_do_nothing(site: Site) -> None:
    assert (await site.post(deliveries.github(event="ping"))).json() == {"outcome": "ignored"}
    nobodys = Delivery(name="", forge="", headers={"x-event": "push"}, body=b"{}", signatures=())
    assert (await site.post(nobodys)).status_code == 400
    assert not site.is_nudged()


async def test_without_a_secret_there_are_no_hooks(tmp_path: Path) -> None:
    site = Site(DataDir(tmp_path / "data"), webhook_secret="")
    unsigned = deliveries.github().headers | {"x-hub-signature-256": f"sha256={deliveries.signed(b'{}', b'')}"}
    response = await site.post(replace(deliveries.github(), headers=unsigned, body=b"{}"))
    assert response.status_code == 403
    too_large = b" " * (routes.MAX_BODY_BYTES + 1)
    assert (await site.post(replace(deliveries.github(), body=too_large))).status_code == 413  # unread


async def test_a_hook_needs_no_token_and_opens_no_other_door(tmp_path: Path) -> None:
    site = Site(DataDir(tmp_path / "data"), host="0.0.0.0", api_token="t0ken-of-the-server")
    assert (await site.post(deliveries.github(), path="/hooks/github")).status_code == 202
    assert (await site.post(deliveries.github(), path="/v1/completions")).status_code == 401
    assert (await site.post(deliveries.github(), path="/hooksandmore")).status_code == 401


async def test_what_is_too_large_is_not_read(site: Site) -> None:
    large = replace(deliveries.github(), body=b" " * (routes.MAX_BODY_BYTES + 1))
    assert (await site.post(large)).status_code == 413


async def test_hooks_together_take_no_more_memory_than_there_is_for_them(site: Site) -> None:
    """A hundred of the largest at once would take half a gigabyte, from whomever."""
    room = site.room
    room.free = 3 * len(deliveries.github().body)
    begun, ended = asyncio.Semaphore(0), asyncio.Event()

    async def dribbled() -> AsyncIterator[bytes]:
        yield deliveries.github().body[:-1]
        begun.release()
        await ended.wait()
        yield deliveries.github().body[-1:]

    waiting = [asyncio.create_task(site.post_stream(deliveries.github(), dribbled())) for _ in range(2)]
    for _ in waiting:
        await begun.acquire()
    large = replace(deliveries.github(), body=b" " * 2 * len(deliveries.github().body))
    answer = await site.post(large)
    assert answer.status_code == 503 and "next fetch" in answer.text
    assert (await site.post(deliveries.github())).status_code == 202, "a small one has room"
    ended.set()
    assert [(await task).status_code for task in waiting] == [202, 202]
    assert room.free == 3 * len(deliveries.github().body)


@pytest.mark.parametrize("secret", ["gehëim", "密"])
async def test_a_token_of_gitlabs_may_have_any_letters(tmp_path: Path, secret: str) -> None:
    """It comes as bytes, which HTTP's headers have as Latin-1."""
    site = Site(DataDir(tmp_path / "data"), webhook_secret=secret)
    delivery = deliveries.gitlab_token()
    shown = [(name, value) for name, value in delivery.headers.items() if name != "x-gitlab-token"]
    for token, status in ((secret.encode(), 202), (b"other", 401)):
        headers = [*((name.encode(), value.encode()) for name, value in shown), (b"x-gitlab-token", token)]
        assert (await site.post(replace(delivery, headers=headers))).status_code == status  # type: ignore[arg-type]


def test_a_forge_may_know_itself_by_another_host() -> None:
    remotes = {"shop-1": "git.internal/team/shop", "till-2": "git.internal/team/till"}
    assert matching(remotes, ["https://git.example.com/team/shop", "Team/Shop"]) == ["shop-1"]
    assert matching(remotes, ["https://git.internal/team/till", "team/shop"]) == ["till-2"]
    assert matching(remotes, ["shop", "", "/", "team/other"]) == []


async def test_a_payload_without_urls_nudges_a_clone_below_scm(site: Site) -> None:
    """Bitbucket Data Center's, and what it serves by HTTP: they weren't matched."""
    site.index("bitbucket.example.com/scm/team/shop", "shop-9")
    await site.post(deliveries.bitbucket_data_center_without_links())
    assert site.is_nudged("shop-9")


def test_a_group_may_be_called_scm() -> None:
    remotes = {"shop-1": "git.internal/scm/shop", "till-2": "git.internal/scm/team/till"}
    assert matching(remotes, ["scm/shop"]) == ["shop-1"]
    assert matching(remotes, ["scm/team/till"]) == matching(remotes, ["TEAM/till"]) == ["till-2"]


@given(st.lists(st.text(max_size=2)), st.integers(1, 5))
def test_what_is_remembered_of_deliveries_is_bounded(names: list[str], size: int) -> None:
    seen = Deliveries(size)
    for name in names:
        seen.add("github", name)
        assert seen.has("github", name) and not seen.has("gitea", name)
    assert sum(seen.has("github", name) for name in set(names)) == min(size, len(set(names)))
