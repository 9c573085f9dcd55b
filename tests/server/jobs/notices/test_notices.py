"""What happens is told to whoever wants to hear it: once, signed, and to nobody else."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import socket
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine

from homespun_core import registry
from homespun_core.notify import NotifyConfig
from homespun_core.paths import DataDir
from homespun_core.retraining import FreshScore, Reception, append_reception, append_score
from homespun_server.access.audit import Actor
from homespun_server.access.changing import changing
from homespun_server.jobs.notices import sending
from homespun_server.jobs.notices.following import Follower
from homespun_server.jobs.notices.sending import Sender, post, signed
from homespun_server.jobs.store import JobStore
from tests.server.jobs.test_store import SetClock

SECRET = "0123456789abcdef"


class Listener:
    """A server that hears notices, and answers as it is told to."""

    def __init__(self) -> None:
        self.heard: list[tuple[dict[str, str], Any]] = []
        self.status, self.location = 204, ""
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                outer.heard.append(({k.lower(): v for k, v in self.headers.items()}, body))
                self.send_response(outer.status)
                if outer.location:
                    self.send_header("Location", outer.location)
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_port}/hook?x=1"

    @property
    def types(self) -> list[str]:
        return [json.loads(body)["type"] for _, body in self.heard]

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def listener() -> Iterator[Listener]:
    made = Listener()
    yield made
    made.close()


@pytest.fixture
def endpoint(listener: Listener) -> NotifyConfig:
    return NotifyConfig(url=listener.url, secret=SECRET, internal=True)


class Site:
    def __init__(self, data: DataDir, database: Engine, endpoint: NotifyConfig) -> None:
        self.data, self.clock = data, SetClock()
        self.store = JobStore(database, clock=self.clock)
        self.follower = Follower(data, database, self.store, [endpoint])
        self.sender = Sender(self.store, [endpoint], "server")

    def go(self) -> None:
        self.follower.look()
        self.sender.send_due()

    def publish(self, version: str, *, promote: bool) -> None:
        place, report = self.data.adapters("shop"), {"promote": promote, "reasons": ["worse by 0.1"]}
        with registry.publish_adapter(
            place / version, fingerprint="f", sources={"base_model": "d"}, report=report
        ) as folder:
            (folder / "adapter_config.json").write_text("{}")
        if promote:
            registry.offer(place, version, "automatic")


@pytest.fixture
def site(tmp_path: Path, database: Engine, endpoint: NotifyConfig) -> Site:
    return Site(DataDir(tmp_path), database, endpoint)


def test_adapters_that_come_and_go_are_told_of_once(site: Site, listener: Listener) -> None:
    site.publish("20261101-000000-aaaaaaaa", promote=True)
    site.go()
    assert listener.heard == []  # it was there before
    site.publish("20261102-000000-bbbbbbbb", promote=True)
    site.go()
    site.publish("20261103-000000-cccccccc", promote=False)
    site.go()
    registry.rollback(site.data.adapters("shop"), by="ann", why="slower")
    site.go()
    site.go()
    assert listener.types == ["adapter.promoted", "adapter.turned_down", "adapter.rolled_back"]
    told = [json.loads(body)["data"] for _, body in listener.heard]
    assert told[1]["why"] == "worse by 0.1" and told[1]["by"] == "gate"
    assert (told[2]["by"], told[2]["why"], told[2]["live"]) == ("ann", "slower", "20261101-000000-aaaaaaaa")


def test_jobs_that_were_given_up_and_drift_are_told_of(site: Site, listener: Listener) -> None:
    site.go()
    job = site.store.add("train", "shop", "shop")
    lease = site.store.lease("w", ["train"])
    assert lease is not None
    site.store.report(job.id, lease.fence, "impossible", reason="no such directory")
    score = FreshScore(
        at=50.0, adapter="v", head="h", places=9, bytes=100, bits=200.0, low=1.9, baseline=1.0, is_alarm=False
    )
    append_score(site.data.retraining("shop"), score)
    append_score(site.data.retraining("shop"), replace(score, at=9e9))  # a clock was wrong
    site.go()
    append_score(site.data.retraining("shop"), replace(score, at=90.0, is_alarm=True))
    site.go()
    site.go()
    fallen = Reception(at=95.0, adapter="v", lately=0.2, before=0.3, is_fall=True)
    for found in (fallen, replace(fallen, at=96.0, is_fall=False)):
        append_reception(site.data.retraining("shop"), found)
        site.go()
    assert listener.types == ["job.failed", "drift.alarm", "acceptance.alarm"]
    assert json.loads(listener.heard[0][1])["data"]["why"] == "no such directory"


def test_what_is_not_delivered_is_tried_again_under_the_same_id(site: Site, listener: Listener) -> None:
    site.publish("20261101-000000-aaaaaaaa", promote=True)
    site.go()
    site.publish("20261102-000000-bbbbbbbb", promote=True)
    listener.status = 500
    site.go()
    assert len(listener.heard) == 1
    site.go()
    assert len(listener.heard) == 1  # a while later
    listener.status, site.clock.at = 200, site.clock.at + 100
    site.go()
    ids = [headers["webhook-id"] for headers, _ in listener.heard]
    assert len(ids) == 2 and ids[0] == ids[1]
    (job,) = site.store.jobs(kinds=["notify"])
    assert job.state == "done"


def test_a_notice_is_signed_as_standard_webhooks_has_it(endpoint: NotifyConfig, listener: Listener) -> None:
    assert post(endpoint, b'{"a":1}', signed("id1", 1_700_000_000, b'{"a":1}', SECRET)).ending == "done"
    ((headers, body),) = listener.heard
    made = hmac.new(SECRET.encode(), b"id1.1700000000." + body, hashlib.sha256).digest()
    assert headers["webhook-signature"] == f"v1,{base64.b64encode(made).decode()}"
    assert (headers["webhook-id"], headers["webhook-timestamp"]) == ("id1", "1700000000")


def test_the_example_of_the_standard_is_signed_as_it_says() -> None:
    """Of the reference libraries' tests."""
    made = signed(
        "msg_p5jXN8AQM9LWM0D4loKWxJek",
        1_614_265_330,
        b'{"test": 2432232314}',
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
    )
    assert made["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


PRIVATE = (
    "127.0.0.1",
    "localhost",
    "10.1.2.3",
    "169.254.169.254",
    "[::1]",
    "[::ffff:10.0.0.1]",
    "0.0.0.0",
    "224.0.0.1",
)


@pytest.mark.parametrize("host", PRIVATE)
def test_addresses_of_our_own_are_refused_unless_they_are_listed(host: str) -> None:
    end = post(NotifyConfig(url=f"https://{host}/latest/meta-data", secret=SECRET), b"{}", {})
    assert end.ending == "failed" and "no public address" in end.reason


def test_a_name_that_leads_to_a_public_and_a_private_address_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    entries = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 443)) for address in ("8.8.8.8", "10.0.0.1")]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: entries)
    end = post(NotifyConfig(url="https://chat.example.com/", secret=SECRET), b"{}", {})
    assert "10.0.0.1 is no public address" in end.reason


def test_redirects_are_not_followed(endpoint: NotifyConfig, listener: Listener) -> None:
    listener.status, listener.location = 307, listener.url
    end = post(endpoint, b"{}", {})
    assert end.ending == "failed" and "redirects" in end.reason
    assert len(listener.heard) == 1


def test_whoever_is_gone_is_not_asked_again(endpoint: NotifyConfig, listener: Listener) -> None:
    listener.status = 410
    assert post(endpoint, b"{}", {}).ending == "impossible"


def test_one_that_dribbles_its_answer_holds_nothing_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sending, "_TIMEOUT_S", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as slow:
        url = f"http://127.0.0.1:{slow.getsockname()[1]}/"
        stop = threading.Event()

        def dribble() -> None:
            connection, _ = slow.accept()
            with connection:
                while not stop.wait(0.05):
                    try:
                        connection.sendall(b"H")
                    except OSError:
                        return

        thread = threading.Thread(target=dribble)
        thread.start()
        assert post(NotifyConfig(url=url, secret=SECRET, internal=True), b"{}", {}).ending == "failed"
        stop.set()
        thread.join()


def test_what_a_person_decides_and_what_ends_is_told_of(site: Site, listener: Listener) -> None:
    for version in ("20261101-000000-aaaaaaaa", "20261102-000000-bbbbbbbb"):
        site.publish(version, promote=True)
    site.go()
    place = site.data.adapters("shop")
    registry.pin(place, by="ann")
    site.publish("20261103-000000-cccccccc", promote=True)  # waits: the champion is pinned
    registry.unpin(place, by="ann")
    registry.approve(place, by="ann")
    registry.retire(place, ["20261101-000000-aaaaaaaa"], by="ann")
    for kind, repository, ending in (
        ("train", "shop", "done"),
        ("index", "shop", "done"),
        ("index", "web", "impossible"),
    ):
        job = site.store.add(kind, repository, repository)  # type: ignore[arg-type]
        lease = site.store.lease("w", [kind])  # type: ignore[list-item]
        assert lease is not None and lease.id == job.id
        site.store.report(job.id, lease.fence, ending, reason="")  # type: ignore[arg-type]
    site.store.cancel(site.store.add("train", "web", "web").id, "ann")
    site.go()
    adapters = [type for type in listener.types if type.startswith("adapter.")]
    assert adapters == [f"adapter.{what}" for what in ("pinned", "candidate", "unpinned", "promoted", "retired")]
    assert sorted(type for type in listener.types if type.startswith("job.")) == [
        "job.cancelled",
        "job.done",
        "job.failed",
    ]


def test_a_repository_that_can_not_be_served_is_told_of_once(
    tmp_path: Path, database: Engine, endpoint: NotifyConfig, listener: Listener
) -> None:
    site, problems = Site(DataDir(tmp_path), database, endpoint), list[str]()
    site.follower = Follower(site.data, database, site.store, [endpoint], lambda: problems)
    site.go()
    problems.append("shop-1: the index is damaged")
    for _ in range(3):
        site.go()
    assert listener.types == ["repository.failed"]
    assert json.loads(listener.heard[0][1])["data"] == {"why": "shop-1: the index is damaged"}


def test_people_are_told_of_by_their_ids_and_only_where_they_are_named(
    tmp_path: Path, database: Engine, endpoint: NotifyConfig, listener: Listener
) -> None:
    wanting = Site(DataDir(tmp_path), database, replace(endpoint, events=("user.deactivated", "access.changed")))
    other = Follower(DataDir(tmp_path), database, JobStore(database, clock=wanting.clock), [endpoint])
    with changing(database, Actor(id="cli:root", origin="cli")) as change:
        bob = change.add_user("bob", email="bob@example.com")
    wanting.go()
    with changing(database, Actor(id="u1", origin="10.0.0.7")) as change:
        change.grant(bob, "shop")
        change.set_active(bob, False)
    wanting.go()
    other.look()
    wanting.go()
    assert listener.types == ["access.changed", "user.deactivated"]
    told = json.loads(listener.heard[1][1])["data"]
    assert (told["action"], told["object"], told["by"]) == ("user.deactivate", f"user:{bob.id}", "u1")
    assert not any(word in body for _, body in listener.heard for word in (b"bob", b"10.0.0.7"))
