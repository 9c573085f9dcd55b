"""The first admin, made in a browser with the code that the server printed."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI

from homespun_core.errors import ConfigError
from homespun_server.access import audit, reading
from homespun_server.access.audit import Actor
from homespun_server.access.changing import changing
from homespun_server.signin.setup import CODE_FILE, LASTS_S, SetUp
from tests.server.signin.conftest import MakeApp

OWN = {"sec-fetch-site": "same-origin"}
HTML = {"accept": "text/html"}


def browser(app: FastAPI) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url="http://homespun.example.com:8080")


def code(app: FastAPI) -> str:
    setup = app.state.signin.setup
    assert isinstance(setup, SetUp)
    return setup.shown


async def test_a_new_server_lets_nobody_in_but_who_has_its_code(make_app: MakeApp) -> None:
    app = make_app(host="0.0.0.0", setup=True)
    async with browser(app) as one:
        assert (await one.get("/v1/models")).status_code == 401
        at_door = await one.get("/console", headers=HTML)
        assert at_door.headers["location"] == "/signin?next=/console"
        assert (await one.get(at_door.headers["location"])).headers["location"] == "/setup"
        assert "Set up Homespun" in (await one.get("/setup")).text
        wrong = await one.post("/setup", data={"code": "B" * 20, "name": "eve"}, headers=OWN)
        assert wrong.status_code == 401 and "homespun-session" not in one.cookies
        foreign = await one.post("/setup", data={"code": code(app), "name": "eve"})
        assert foreign.status_code == 403
        assert (await one.get("/console", headers=HTML)).status_code == 303
    with app.state.runtime.database.connect() as connection:
        assert not reading.has_accounts(connection)


async def test_the_code_makes_one_admin_who_is_signed_in_and_has_a_token(make_app: MakeApp, tmp_path: Path) -> None:
    app = make_app(host="0.0.0.0", setup=True)
    shown, file = code(app), tmp_path / CODE_FILE
    assert file.read_text().strip() == shown and file.stat().st_mode & 0o077 == 0
    fields = {"code": f" {shown.lower()} ", "name": "Ada", "email": "ada@example.com"}
    async with browser(app) as one:
        made = await one.post("/setup", data=fields, headers=OWN)
        assert made.status_code == 200 and "homespun login http://homespun.example.com:8080" in made.text
        assert (await one.get("/console")).status_code == 200
        token = made.text.partition('id="token">')[2].partition("<")[0]
        again = await one.post("/setup", data=fields, headers=OWN)
        assert again.status_code in (403, 410)  # no csrf token of the session; and it is over
    async with browser(app) as other:
        assert (await other.post("/setup", data=fields | {"name": "eve"}, headers=OWN)).status_code == 410
        mine = await other.get("/v1/homespun/admin/users", headers={"authorization": f"Bearer {token}"})
        assert [(user["name"], user["role"]) for user in mine.json()] == [("ada", "admin")]
    assert not file.exists()
    with app.state.runtime.database.connect() as connection:
        actions = [(entry.actor, entry.action) for entry in audit.entries(connection)]
    assert ("setup", "user.add") in actions and ("setup", "token.create") in actions


async def test_a_name_that_can_not_be_uses_up_no_code(make_app: MakeApp) -> None:
    app = make_app(host="0.0.0.0", setup=True)
    async with browser(app) as one:
        fields = {"code": code(app), "name": "no name at all"}
        assert (await one.post("/setup", data=fields, headers=OWN)).status_code == 400
        assert (await one.post("/setup", data=fields | {"name": "ada"}, headers=OWN)).status_code == 200


async def test_guessing_is_slow(make_app: MakeApp) -> None:
    app = make_app(host="0.0.0.0", setup=True)
    async with browser(app) as one:
        guess = {"code": "x", "name": "eve"}
        tried = [(await one.post("/setup", data=guess, headers=OWN)).status_code for _ in range(12)]
        late = await one.post("/setup", data={"code": code(app), "name": "eve"}, headers=OWN)
    assert tried == [401] * 10 + [429] * 2 and late.status_code == 429


def test_the_code_ends_after_an_hour(make_app: MakeApp, tmp_path: Path) -> None:
    now = [0.0]
    setup = SetUp(make_app().state.runtime.database, tmp_path / CODE_FILE, clock=lambda: now[0])
    assert setup.is_code(setup.shown)
    now[0] = LASTS_S
    assert not setup.is_open and not setup.is_code(setup.shown)


def test_two_codes_make_one_admin(make_app: MakeApp, tmp_path: Path) -> None:
    """Two servers that start on one database print two."""
    database = make_app().state.runtime.database
    first, second = (SetUp(database, tmp_path / name) for name in ("one", "two"))
    first.first_admin("ada", None, "test")
    with pytest.raises(ConfigError, match="there is an admin already"):
        second.first_admin("eve", None, "test")


async def test_a_server_with_an_admin_or_without_the_setting_has_no_code(make_app: MakeApp) -> None:
    app = make_app(host="0.0.0.0", setup=True)
    app.state.signin.setup.first_admin("ada", None, "test")
    assert make_app(host="0.0.0.0", setup=True).state.signin.setup is None
    plain = make_app()
    async with browser(plain) as one:
        one.base_url = httpx.URL("http://127.0.0.1:8080")
        assert plain.state.signin.setup is None


async def test_on_loopback_too_set_up_asks_everybody(make_app: MakeApp) -> None:
    app = make_app(setup=True)
    async with browser(app) as one:
        one.base_url = httpx.URL("http://127.0.0.1:8080")
        assert (await one.get("/v1/models")).status_code == 401
        assert (await one.get("/setup")).status_code == 200


def test_a_server_that_asks_nobody_and_is_no_new_one_is_still_refused(make_app: MakeApp) -> None:
    with pytest.raises(ConfigError, match="--setup"):
        make_app(host="0.0.0.0")


async def test_an_admin_made_elsewhere_ends_the_set_up(make_app: MakeApp, tmp_path: Path) -> None:
    """By another server, the command line or the identity provider: people then find the page to sign in."""
    app = make_app(host="0.0.0.0", setup=True)
    async with browser(app) as one:
        assert (await one.get("/signin")).headers["location"] == "/setup"
        with changing(app.state.runtime.database, Actor(id="cli:test", origin="cli")) as change:
            change.add_user("ada", role="admin")
        assert (await one.get("/signin")).status_code == 200
        assert "Set up Homespun" not in (await one.get("/setup")).text
    assert not (tmp_path / CODE_FILE).exists()
