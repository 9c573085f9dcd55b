"""An editor gets a token: the code it shows, the page where somebody approves it, what it is told meanwhile."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy import Engine, select

from homespun_server.access import reading
from homespun_server.access.changing import changing
from homespun_server.access.tables import tokens
from homespun_server.signin.device import DeviceCodes
from tests.server.signin.certified import OURS, Browser, CertifiedProvider
from tests.server.signin.conftest import MakeApp, MakeBrowser
from tests.server.signin.people import ADMIN, change, person, token, within_5_s

GRANT = "urn:ietf:params:oauth:grant-type:device_code"


class Editor:
    """A client of RFC 8628 that doesn't wait."""

    def __init__(self, app: FastAPI) -> None:
        self._app = app
        self.http = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=OURS)
        self.code: dict[str, Any] = {}

    async def begin(self, **fields: str) -> httpx.Response:
        answer = await self._post("device/code", {"client_id": "homespun-editor", "scope": "complete"} | fields)
        self.code = answer.json()
        return answer

    async def ask(self) -> dict[str, Any]:
        """As if it had waited as long as it was told."""
        with self._app.state.runtime.database.begin() as connection:
            connection.exec_driver_sql("UPDATE device_codes SET polled = polled - 60")
        return await self.ask_at_once()

    async def ask_at_once(self) -> dict[str, Any]:
        fields = {"grant_type": GRANT, "device_code": self.code["device_code"], "client_id": "homespun-editor"}
        answer = await self._post("token", fields)
        assert answer.headers["cache-control"] == "no-store"
        assert answer.status_code == (200 if "access_token" in answer.json() else 400)
        return dict(answer.json())

    async def revoke(self, text: str) -> httpx.Response:
        return await self._post("revoke", {"token": text})

    async def _post(self, path: str, fields: dict[str, str]) -> httpx.Response:
        return await self.http.post(f"/oauth/{path}", data=fields)


@pytest.fixture
async def app(certified: CertifiedProvider, oidc: dict[str, str], make_app: MakeApp) -> FastAPI:
    certified.add("ada-1", preferred_username="ada", groups=[])
    return make_app(**oidc)


@pytest.fixture
async def browser(app: FastAPI, make_browser: MakeBrowser) -> Browser:
    made = make_browser(app)
    await made.sign_in("ada-1")
    return made


async def _approved(browser: Browser, editor: Editor, decision: str = "approve") -> httpx.Response:
    page = await browser.get(editor.code["verification_uri_complete"])
    return await browser.submit(page, decision=decision)


async def test_an_editor_that_is_approved_gets_one_token(app: FastAPI, browser: Browser) -> None:
    editor = Editor(app)
    await editor.begin(device_name="ada's laptop")
    assert (await editor.ask())["error"] == "authorization_pending"
    page = await browser.get(editor.code["verification_uri_complete"])
    assert editor.code["user_code"] in page.text and "Editor on ada&#39;s laptop" in page.text
    assert (await editor.ask())["error"] == "authorization_pending"  # looking isn't approving
    assert (await _approved(browser, editor)).status_code == 200
    got = await editor.ask()
    assert (got["token_type"], got["scope"], got["expires_in"]) == ("Bearer", "complete", 90 * 86_400)
    assert (await editor.ask())["error"] == "invalid_grant"
    headers = {"Authorization": f"Bearer {got['access_token']}"}
    assert (await editor.http.get("/v1/models", headers=headers)).status_code == 503  # let in; there is no model here
    assert (await editor.http.get("/metrics", headers=headers)).status_code == 403
    ada = person(app, "ada")
    assert ada is not None
    with app.state.runtime.database.connect() as connection:
        (record,) = reading.all_tokens(connection, ada.user.id)
    assert record.name == "Editor on ada's laptop" and record.scopes == {"complete"}


async def test_an_editor_that_is_refused_gets_none(app: FastAPI, browser: Browser) -> None:
    editor = Editor(app)
    await editor.begin()
    assert "gets no access" in (await _approved(browser, editor, "deny")).text
    assert (await editor.ask())["error"] == "access_denied"
    assert (await browser.get(editor.code["verification_uri_complete"])).status_code == 404  # decided for good


async def test_whoever_asks_too_often_has_to_wait_longer(app: FastAPI) -> None:
    editor = Editor(app)
    await editor.begin()
    assert [(await editor.ask_at_once())["error"] for _ in range(3)] == [
        "authorization_pending",
        "slow_down",
        "slow_down",
    ]
    with app.state.runtime.database.connect() as connection:
        assert connection.exec_driver_sql("SELECT interval_s FROM device_codes").scalars().all() == [15]


async def test_the_page_is_for_people_who_are_signed_in(app: FastAPI, make_browser: MakeBrowser) -> None:
    editor, stranger = Editor(app), make_browser(app)
    await editor.begin()
    page = await stranger.get(editor.code["verification_uri_complete"])
    code = editor.code["user_code"].replace("-", "")
    assert page.url.path == "/signin" and page.url.params["next"] == f"/oauth/device?user_code={code}"
    page = await stranger.sign_in("ada-1", page.url.params["next"].replace("?", "%3F"))
    assert editor.code["user_code"] in page.text


async def test_a_code_may_be_typed_as_one_likes(app: FastAPI, browser: Browser) -> None:
    editor = Editor(app)
    await editor.begin()
    page = await browser.submit(await browser.get("/oauth/device"), user_code=f" {editor.code['user_code'].lower()} ")
    assert "Is this your editor?" in page.text and "Did somebody send you this code" in page.text


async def test_guessing_codes_is_slow(app: FastAPI, browser: Browser) -> None:
    statuses = [(await browser.get(f"/oauth/device?user_code=BCDFGHJ{letter}")).status_code for letter in "BCDFGHJKLMN"]
    assert statuses == [404] * 10 + [429]


async def test_another_site_can_approve_nothing(app: FastAPI, browser: Browser) -> None:
    editor = Editor(app)
    await editor.begin()
    fields = {"user_code": editor.code["user_code"], "decision": "approve"}
    for headers in ({"Origin": "https://evil.example.com"}, {"Origin": OURS}):  # the second lacks the page's token
        assert (await browser.http.post(f"{OURS}/oauth/device", data=fields, headers=headers)).status_code == 403
    assert (await editor.ask())["error"] == "authorization_pending"


async def test_a_weak_token_makes_no_other(app: FastAPI, make_browser: MakeBrowser) -> None:
    """One that was revoked would live on in those that were made with it."""
    editor, weak = Editor(app), make_browser(app)
    await editor.begin()
    await weak.submit(await weak.get("/signin"), token=token(app, "eve", "complete"))
    page = await weak.get(editor.code["verification_uri_complete"])
    assert page.status_code == 403 and "<button name" not in page.text


async def test_the_token_is_handed_back(app: FastAPI, browser: Browser) -> None:
    editor = Editor(app)
    await editor.begin()
    await _approved(browser, editor)
    text = (await editor.ask())["access_token"]
    assert [(await editor.revoke(t)).status_code for t in ("wrong", f"{text}x", "", text)] == [200] * 4

    async def is_out() -> bool:
        answer = await editor.http.get("/v1/models", headers={"Authorization": f"Bearer {text}"})
        return answer.status_code == 401

    assert await within_5_s(is_out)


async def test_whoever_was_deactivated_meanwhile_gets_no_token(app: FastAPI, browser: Browser) -> None:
    editor = Editor(app)
    await editor.begin()
    await _approved(browser, editor)
    ada = person(app, "ada")
    with change(app) as made:
        assert ada is not None
        made.set_active(ada.user, False)
    assert (await editor.ask())["error"] == "access_denied"
    with app.state.runtime.database.connect() as connection:
        assert connection.execute(select(tokens)).all() == []


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"client_id": "other"}, "invalid_client"),
        ({"scope": "admin"}, "invalid_scope"),
        ({"scope": "complete admin"}, "invalid_scope"),
    ],
)
async def test_nobody_else_and_nothing_more_is_served(app: FastAPI, fields: dict[str, str], error: str) -> None:
    assert (await Editor(app).begin(**fields)).json()["error"] == error


async def test_what_is_no_form_is_refused_as_oauth_has_it(app: FastAPI) -> None:
    http = Editor(app).http
    answer = await http.post("/oauth/token", json={"grant_type": GRANT})
    assert answer.status_code == 415 and answer.json()["error"] == "invalid_request"
    assert (await http.post("/oauth/token", data={"grant_type": "password"})).json()[
        "error"
    ] == "unsupported_grant_type"


async def test_a_server_that_asks_nobody_has_nothing_to_give(make_app: MakeApp) -> None:
    answer = await Editor(make_app()).begin()
    assert answer.status_code == 400 and "needs no sign-in" in answer.json()["error_description"]


async def test_clients_find_the_endpoints(app: FastAPI) -> None:
    found = (await Editor(app).http.get("/.well-known/oauth-authorization-server")).json()
    assert found["issuer"] == OURS and found["device_authorization_endpoint"] == f"{OURS}/oauth/device/code"
    assert found["grant_types_supported"] == [GRANT]


def test_codes_are_good_for_ten_minutes(database: Engine) -> None:
    now = [1_000.0]
    codes = DeviceCodes(database, clock=lambda: now[0])
    started = codes.start("Editor", "complete", "here")
    assert codes.waiting(started.user_code) is not None
    now[0] += 600
    assert codes.waiting(started.user_code) is None
    assert codes.ask(started.device_code)[0] == "expired_token"


def test_a_code_is_decided_once(database: Engine) -> None:
    codes = DeviceCodes(database)
    code = codes.waiting(codes.start("Editor", "complete", "here").user_code)
    with changing(database, ADMIN) as made:
        ada = made.add_user("ada").id
    assert code is not None
    assert codes.decide(code, ada, "denied") and not codes.decide(code, ada, "approved")
