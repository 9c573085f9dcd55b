"""Who is asked to sign in at all, under which names the server answers, and settings that can't be."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from sqlalchemy.exc import OperationalError

from homespun_core.config import Settings
from homespun_core.errors import ConfigError
from homespun_core.loading import LoadedSettings
from homespun_server.doctor import Check, examine
from tests.server.signin.certified import OURS, CertifiedProvider
from tests.server.signin.conftest import MakeApp, MakeBrowser

OIDC = {"oidc_issuer": "https://login.example.com", "oidc_client_id": "homespun"}
PUBLIC = "https://homespun.example.com"
API_TOKEN = "a-token-of-the-settings"


async def test_with_an_identity_provider_nobody_is_let_in_unasked(make_app: MakeApp, make_browser: MakeBrowser) -> None:
    """Not even on loopback, before the first account: a proxy in front may serve everybody."""
    open_to_all, asking = make_browser(make_app()), make_browser(make_app(**OIDC, public_url=PUBLIC))
    assert (await open_to_all.get("/metrics")).status_code == 200
    assert (await asking.get("/metrics")).status_code == 401


async def test_a_proxy_may_pass_the_public_name_on(make_app: MakeApp) -> None:
    transport = httpx.ASGITransport(make_app(public_url=PUBLIC, api_token=API_TOKEN))
    async with httpx.AsyncClient(transport=transport, base_url=OURS) as client:
        names = (
            "homespun.example.com",
            "HOMESPUN.example.com:443",
            "evil.example.com",
            "homespun.example.com.evil.com",
        )
        statuses = [(await client.get("/healthz", headers={"Host": name})).status_code for name in names]
        foreign = await client.get("/healthz", headers={"Origin": "https://evil.example.com"})
    assert statuses == [200, 200, 400, 400] and foreign.status_code == 403


@pytest.mark.parametrize(
    "header", ["Forwarded", "X-Forwarded-For", "x-forwarded-host", "X-FORWARDED-PROTO", "X-Real-IP"]
)
async def test_what_a_proxy_passes_on_is_nobodys(make_app: MakeApp, header: str) -> None:
    """Without accounts this machine's user is an admin; whoever a proxy on it speaks for is not."""
    transport = httpx.ASGITransport(make_app())
    async with httpx.AsyncClient(transport=transport, base_url=OURS) as client:
        direct = await client.get("/v1/homespun/admin/users")
        passed_on = await client.get("/v1/homespun/admin/users", headers={header: "203.0.113.9"})
    assert (direct.status_code, passed_on.status_code) == (200, 401)


@pytest.mark.parametrize(
    ("settings", "word"),
    [
        (OIDC, "public_url"),
        (OIDC | {"public_url": PUBLIC, "oidc_client_id": ""}, "oidc_client_id"),
        (OIDC | {"public_url": PUBLIC, "oidc_issuer": "http://login.example.com"}, "https"),
        (OIDC | {"public_url": PUBLIC, "oidc_ca_file": "/nowhere.pem"}, "oidc_ca_file"),
        ({"public_url": "homespun.example.com"}, "public_url"),
        ({"public_url": "https://homespun.example.com/console"}, "public_url"),
        ({"public_url": PUBLIC}, "HOMESPUN_API_TOKEN"),
        ({"host": "0.0.0.0", "api_token": "x" * 15}, "api_token"),
        ({"host": "0.0.0.0", "api_token": API_TOKEN, "scim_token": "short"}, "scim_token"),
        ({"public_url": PUBLIC, "api_token": API_TOKEN, "worker_token": "short"}, "worker_token"),
    ],
)
def test_settings_that_cannot_be_are_refused_in_a_line(make_app: MakeApp, settings: dict[str, Any], word: str) -> None:
    with pytest.raises(ConfigError, match=word) as error:
        make_app(**settings)
    assert "\n" not in str(error.value)


async def test_pages_are_shown_to_strangers_and_say_what_there_is(make_app: MakeApp, make_browser: MakeBrowser) -> None:
    with_provider, without = make_browser(make_app(**OIDC, public_url=PUBLIC)), make_browser(make_app(api_token="t"))
    assert "Sign in at login.example.com" in (await with_provider.get("/signin")).text
    page = await without.get("/signin")
    assert "Sign in at" not in page.text and page.headers["cache-control"] == "no-store"
    assert (await without.get("/assets/style.css")).status_code == 200
    assert (await without.get("/signin/start")).status_code == 404


async def test_while_the_database_is_away_pages_say_so(
    make_app: MakeApp, make_browser: MakeBrowser, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = make_app(api_token="t")
    browser = make_browser(app)
    browser.http.cookies.set("homespun-session", "any", domain="127.0.0.1")
    engine = app.state.runtime.database
    monkeypatch.setattr(engine, "connect", _away)
    monkeypatch.setattr(engine, "begin", _away)
    started = await browser.http.post(f"{OURS}/oauth/device/code", data={"client_id": "homespun-editor"})
    assert started.status_code == 503 and started.json()["error"] == "temporarily_unavailable"
    headers, fields = {"Origin": OURS, "Accept": "text/html"}, {"token": f"homespun_{'a' * 12}_x"}
    page = await browser.http.post(f"{OURS}/signin/token", data=fields, headers=headers)
    assert page.status_code == 503 and "database can’t be reached" in page.text
    assert (await browser.get("/metrics")).status_code == 503  # whose session it is can't be known
    assert (await browser.get("/signin")).status_code == 200


def _away() -> None:
    raise OperationalError("", None, ConnectionError())


def test_doctor_says_whether_the_provider_answers(certified: CertifiedProvider, oidc: dict[str, str]) -> None:
    (good,) = _doctored(oidc)
    assert good.ok and f"{OURS}/signin/callback" in good.found
    (down,) = _doctored(oidc | {"oidc_issuer": "http://127.0.0.1:9"})
    assert not down.ok and "can't be reached" in down.remedy
    (other,) = _doctored(oidc | {"oidc_issuer": f"{certified.issuer}/"})
    assert not other.ok and f"calls itself '{certified.issuer}'" in other.remedy
    assert list(_doctored({})) == []


def _doctored(settings: dict[str, str]) -> list[Check]:
    loaded = LoadedSettings(Settings(**settings), {})  # type: ignore[arg-type]  # these are texts
    return [check for check in examine(loaded) if check.name == "sign-in"]
