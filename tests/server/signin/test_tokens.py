"""Signing in to the pages with a token, where there is no identity provider."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from homespun_server.access import reading
from homespun_server.access.tokens import parsed
from tests.server.signin.certified import OURS, Browser
from tests.server.signin.conftest import MakeApp, MakeBrowser
from tests.server.signin.people import change, token, within_5_s

API_TOKEN = "the-servers-own-token"


async def _sign_in(browser: Browser, text: str, next: str = "") -> int:
    page = await browser.get(f"/signin?next={next}")
    return (await browser.submit(page, token=text)).status_code


async def _may_read_metrics(browser: Browser) -> bool:
    return (await browser.get("/metrics")).status_code == 200


async def test_the_servers_own_token_opens_the_pages(make_app: MakeApp, make_browser: MakeBrowser) -> None:
    browser = make_browser(make_app(api_token=API_TOKEN))
    assert not await _may_read_metrics(browser)
    await _sign_in(browser, API_TOKEN)
    assert await _may_read_metrics(browser)


async def test_a_session_ends_when_the_servers_token_is_another(make_app: MakeApp, make_browser: MakeBrowser) -> None:
    browser = make_browser(make_app(api_token=API_TOKEN))
    await _sign_in(browser, API_TOKEN)
    later = make_browser(make_app(api_token="changed"))
    later.http.cookies.update(browser.http.cookies)
    assert not await _may_read_metrics(later)


async def test_a_session_may_what_its_token_may(make_app: MakeApp, make_browser: MakeBrowser) -> None:
    app = make_app(api_token=API_TOKEN)
    admin, weak = make_browser(app), make_browser(app)
    await _sign_in(admin, token(app, "root", "admin", "index:read", role="admin"))
    await _sign_in(weak, token(app, "root", "complete"))
    assert await _may_read_metrics(admin) and not await _may_read_metrics(weak)


async def test_a_session_ends_with_its_token_within_seconds(make_app: MakeApp, make_browser: MakeBrowser) -> None:
    app = make_app(api_token=API_TOKEN)
    browser, text = make_browser(app), token(app, "root", "admin", "index:read", role="admin")
    await _sign_in(browser, text)
    assert await _may_read_metrics(browser)
    with change(app) as made:
        made.revoke_token((parsed(text) or pytest.fail()).id)

    async def is_out() -> bool:
        return (await browser.get("/metrics")).status_code == 401

    assert await within_5_s(is_out)


@pytest.mark.parametrize("text", ["", "wrong", "homespun_aaaaaaaaaaaa_guess", "ü" * 300, "homespun__"])
async def test_what_is_no_token_opens_nothing(make_app: MakeApp, make_browser: MakeBrowser, text: str) -> None:
    browser = make_browser(make_app(api_token=API_TOKEN))
    assert await _sign_in(browser, text) == 401
    assert not browser.http.cookies


async def test_a_tokens_id_without_its_secret_opens_nothing(make_app: MakeApp, make_browser: MakeBrowser) -> None:
    app = make_app()
    known = parsed(token(app, "ada"))
    assert known is not None
    assert await _sign_in(make_browser(app), f"homespun_{known.id}_guess") == 401


async def test_guessing_is_slow(make_app: MakeApp, make_browser: MakeBrowser) -> None:
    """The right token doesn't help whoever has tried too often."""
    browser = make_browser(make_app(api_token=API_TOKEN))
    assert [await _sign_in(browser, "wrong") for _ in range(10)] == [401] * 10
    assert await _sign_in(browser, API_TOKEN) == 429


async def test_forms_of_other_sites_are_refused(make_app: MakeApp, make_browser: MakeBrowser) -> None:
    """Those that sign somebody in, too: else they would work in an account that the other site watches."""
    browser = make_browser(make_app(api_token=API_TOKEN, host="0.0.0.0"))
    for headers in ({}, {"Origin": "https://evil.example.com"}, {"Sec-Fetch-Site": "cross-site", "Origin": OURS}):
        answer = await browser.http.post(f"{OURS}/signin/token", data={"token": API_TOKEN}, headers=headers)
        assert answer.status_code == 403 and not browser.http.cookies


async def test_a_form_needs_what_only_the_page_knows(make_app: MakeApp, make_browser: MakeBrowser) -> None:
    browser = make_browser(make_app(api_token=API_TOKEN))
    await _sign_in(browser, API_TOKEN)
    for fields in ({"csrf": ""}, {"csrf": "guess"}, {"csrf": "ü"}):
        answer = await browser.http.post(f"{OURS}/signout", data=fields, headers={"Origin": OURS})
        assert answer.status_code == 403
    assert await _may_read_metrics(browser)


async def test_a_session_counts_for_nothing_in_what_other_sites_send(
    make_app: MakeApp, make_browser: MakeBrowser
) -> None:
    browser = make_browser(make_app(api_token=API_TOKEN, host="0.0.0.0"))
    await _sign_in(browser, API_TOKEN)
    url = f"{OURS}/v1/homespun/events"
    foreign = await browser.http.post(url, json={"events": []}, headers={"Origin": "https://evil.example.com"})
    own = await browser.http.post(url, json={"events": []}, headers={"Origin": OURS})
    assert (foreign.status_code, own.status_code) == (403, 200)


@pytest.mark.parametrize(
    "next", ["//evil.example.com", "https://evil.example.com", "/\\evil", "/a%0d%0ab", "%5c%5cevil"]
)
async def test_signing_in_leads_to_no_other_site(make_app: MakeApp, make_browser: MakeBrowser, next: str) -> None:
    browser = make_browser(make_app(api_token=API_TOKEN))
    page = await browser.get(f"/signin?next={next}")
    browser.http.follow_redirects = False
    answer = await browser.submit(page, token=API_TOKEN)
    assert answer.status_code == 303 and answer.headers["location"] == "/"


async def test_the_cookie_is_out_of_reach_of_scripts_and_of_plain_http(
    make_app: MakeApp, make_browser: MakeBrowser
) -> None:
    browser = make_browser(make_app(api_token=API_TOKEN, public_url="https://homespun.example.com"))
    browser.http.follow_redirects = False
    page = await browser.get("/signin")
    cookie = (await browser.submit(page, token=API_TOKEN)).headers["set-cookie"]
    assert cookie.startswith("__Host-homespun-session=")
    assert {"HttpOnly", "Secure", "SameSite=lax", "Path=/"} <= set(cookie.split("; ")) and "Domain" not in cookie


async def test_no_secret_is_in_the_database(make_app: MakeApp, make_browser: MakeBrowser) -> None:
    app = make_app(api_token=API_TOKEN)
    browser, text = make_browser(app), token(app, "ada")
    await _sign_in(browser, text)
    file = Path(app.state.runtime.database.url.database)
    with app.state.runtime.database.connect() as connection:
        assert reading.has_accounts(connection)
        connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
    stored = await asyncio.to_thread(file.read_bytes)
    for secret in (browser.http.cookies["homespun-session"], (parsed(text) or pytest.fail()).secret, API_TOKEN):
        assert secret.encode() not in stored
