"""Permissions of forges become grants. The forge is a small real server that answers in their shapes."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import pytest
from sqlalchemy import Engine, update

from homespun_core.forges import ForgeConfig, ForgeKind
from homespun_server.access import audit, reading
from homespun_server.access.changing import changing
from homespun_server.access.decisions import Guarded, readable_by
from homespun_server.access.forges import ForgeFollower, path_at, sync
from homespun_server.access.tables import grants
from tests.server.access.conftest import ADMIN

KINDS: tuple[ForgeKind, ...] = ("github", "gitlab", "gitea", "forgejo")
SHOP = Guarded(id="shop-1", name="shop", addresses=frozenset({"127.0.0.1/team/shop"}), groups=frozenset({"nobody"}))
TOKEN = "forge-secret"


class Forge:
    """`may_read` is by `owner/name`: the names of its readers, and `failing` the status of all answers."""

    def __init__(self) -> None:
        self.may_read: dict[str, list[str]] = {"team/shop": ["Ada"]}
        self.failing: int | None = None
        self.body: bytes | None = None
        forge = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                status, body = forge.answer(self.path, self.headers.get("Authorization", ""))
                raw = forge.body if forge.body is not None else json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(raw)))
                if status == 302:
                    self.send_header("Location", "http://127.0.0.1:9/")
                self.end_headers()
                self.wfile.write(raw)

            def log_message(self, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def config(self, kind: ForgeKind, minutes: float = 1.0) -> ForgeConfig:
        url = f"http://127.0.0.1:{self.server.server_port}"
        return ForgeConfig(kind=kind, url=url, token_env="FORGE_TOKEN", minutes=minutes)

    def answer(self, address: str, authorization: str) -> tuple[int, Any]:
        parts = urlsplit(address)
        _, _, version, *words = parts.path.split("/")
        if self.failing is not None:
            return self.failing, {"message": "no"}
        if authorization.partition(" ")[2] != TOKEN:
            return 401, {"message": "Bad credentials"}
        query = parse_qs(parts.query)
        if version == "v1":
            return self._gitea(words)
        repository = unquote(words[1]) if version == "v4" else f"{words[1]}/{words[2]}"
        if repository not in self.may_read:
            return 404, {"message": "Not Found"}
        rows = (self._gitlab if version == "v4" else self._github)(self.may_read[repository])
        page, size = int(query["page"][0]), int(query["per_page"][0])
        return 200, rows[(page - 1) * size : page * size]

    def _github(self, names: list[str]) -> list[dict[str, Any]]:
        return [{"login": name, "permissions": {"pull": True, "push": False}} for name in names] + [
            {"login": "eve", "permissions": {"pull": False}}
        ]

    def _gitlab(self, names: list[str]) -> list[dict[str, Any]]:
        return [{"username": name, "access_level": 30, "state": "active"} for name in names] + [
            {"username": "eve", "access_level": 10, "state": "active"},
            {"username": "eve", "access_level": 40, "state": "blocked"},
        ]

    def _gitea(self, words: list[str]) -> tuple[int, Any]:
        repository, user = f"{words[1]}/{words[2]}", words[4]
        names = [name.lower() for name in self.may_read.get(repository, [])]
        return (200, {"permission": "read"}) if user in names else (200, {"permission": "none"})


@pytest.fixture
def forge(monkeypatch: pytest.MonkeyPatch) -> Iterator[Forge]:
    monkeypatch.setenv("FORGE_TOKEN", TOKEN)
    made = Forge()
    yield made
    made.server.shutdown()
    made.server.server_close()


@pytest.fixture
def people(engine: Engine) -> None:
    with changing(engine, ADMIN) as change:
        for name in ("ada", "bob", "eve"):
            change.add_user(name)


def _readers(engine: Engine, now: float | None = None) -> set[str]:
    found = set()
    with engine.connect() as connection:
        for user in reading.all_users(connection):
            person = reading.person(connection, user.id)
            assert person is not None
            if readable_by(person, [SHOP], False, time.time() if now is None else now):
                found.add(user.name)
    return found


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.usefixtures("people")
def test_who_may_read_there_may_read_here_as_long_as_they_may(engine: Engine, forge: Forge, kind: ForgeKind) -> None:
    config = forge.config(kind)
    assert sync(engine, config, [SHOP]) == [] and _readers(engine) == {"ada"}
    forge.may_read["team/shop"] = ["bob"]
    assert sync(engine, config, [SHOP]) == [] and _readers(engine) == {"bob"}
    forge.may_read["team/shop"] = []
    assert sync(engine, config, [SHOP]) == [] and _readers(engine) == set()


@pytest.mark.parametrize(
    ("kind", "failure"),
    [
        ("github", 500),
        ("gitlab", 401),
        ("gitea", 302),
        ("github", "nonsense"),
        ("gitea", "nonsense"),
        ("gitlab", "away"),
    ],
)
@pytest.mark.usefixtures("people")
def test_a_forge_that_fails_gives_nobody_anything_and_takes_it_away_in_time(
    engine: Engine, forge: Forge, kind: ForgeKind, failure: int | str
) -> None:
    config = forge.config(kind, minutes=1.0)
    sync(engine, config, [SHOP])
    if isinstance(failure, int):
        forge.failing = failure
    elif failure == "nonsense":
        forge.body = b"<html>"
    else:
        forge.server.shutdown()
        forge.server.server_close()
    (problem,) = sync(engine, config, [SHOP])
    assert "shop-1" in problem and TOKEN not in problem
    assert _readers(engine) == {"ada"}
    assert _readers(engine, time.time() + 4 * 60) == set()


@pytest.mark.usefixtures("people")
def test_asking_again_prolongs_without_a_change_of_rights(engine: Engine, forge: Forge) -> None:
    sync(engine, forge.config("gitlab"), [SHOP])
    with engine.connect() as connection:
        version, entries = reading.version(connection), audit.verify(connection).entries
        (before,) = reading.all_grants(connection)
    sync(engine, forge.config("gitlab"), [SHOP])
    with engine.connect() as connection:
        assert (reading.version(connection), audit.verify(connection).entries) == (version, entries)
        (after,) = reading.all_grants(connection)
    assert before.expires is not None and after.expires is not None and after.expires > before.expires


@pytest.mark.usefixtures("people")
def test_after_a_long_silence_servers_hear_that_people_may_read_again(engine: Engine, forge: Forge) -> None:
    """What they know of people, they look up again only when the version of it has changed."""
    forge.may_read["team/shop"] = ["ada", "bob"]
    sync(engine, forge.config("gitlab"), [SHOP])
    with engine.begin() as connection:
        connection.execute(update(grants).values(expires=time.time() - 1))
        version = reading.version(connection)
    forge.may_read["team/shop"] = ["ada"]
    sync(engine, forge.config("gitlab"), [SHOP])
    assert _readers(engine) == {"ada"}
    with engine.connect() as connection:
        assert reading.version(connection) > version
        assert [grant.subject for grant in reading.all_grants(connection)] == ["user:ada"]


@pytest.mark.usefixtures("people")
def test_more_people_than_fit_on_a_page(engine: Engine, forge: Forge) -> None:
    forge.may_read["team/shop"] = [*(f"other{n}" for n in range(250)), "bob"]
    for kind in ("github", "gitlab"):
        assert sync(engine, forge.config(kind), [SHOP]) == [] and _readers(engine) == {"bob"}


@pytest.mark.usefixtures("people")
def test_what_the_forge_does_not_know_is_nobodys(engine: Engine, forge: Forge) -> None:
    forge.may_read = {}
    (problem,) = sync(engine, forge.config("github"), [SHOP])
    assert "no such repository" in problem and _readers(engine) == set()


@pytest.mark.usefixtures("people")
def test_what_admins_granted_stays(engine: Engine, forge: Forge) -> None:
    with changing(engine, ADMIN) as change:
        bob = reading.user_named(change.connection, "bob")
        assert bob is not None
        change.grant(bob, "shop-1")
    sync(engine, forge.config("gitea"), [SHOP])
    assert _readers(engine) == {"ada", "bob"}


def test_only_repositories_from_there_are_asked_about() -> None:
    config = ForgeConfig(kind="gitlab", url="https://git.example.com", token_env="X")
    for addresses, path in (
        ({"git.example.com/a/b/shop"}, "a/b/shop"),
        ({"/home/ada/shop", "git.example.com/a/shop"}, "a/shop"),
        ({"git.example.com.evil.org/a/shop"}, None),
        ({"/home/ada/shop"}, None),
        ({"git.example.com/a/shop", "git.example.com/b/fork"}, None),
    ):
        assert path_at(config, Guarded(id="x", addresses=frozenset(addresses))) == path


@pytest.mark.usefixtures("people")
def test_a_server_asks_by_itself(engine: Engine, forge: Forge) -> None:
    follower = ForgeFollower(engine, [forge.config("gitlab", minutes=0.001)], lambda: (SHOP,))
    follower.start()
    for expected in ({"ada"}, {"bob"}):
        forge.may_read["team/shop"] = sorted(expected)
        deadline = time.monotonic() + 10
        while _readers(engine) != expected:
            assert time.monotonic() < deadline
            time.sleep(0.02)
    follower.close()
