"""Signing in at a certified provider, with a browser that follows every redirect."""

from __future__ import annotations

import html
import re

import httpx
import pytest

from tests.server.signin.certified import OURS, Browser, CertifiedProvider
from tests.server.signin.conftest import MakeApp, MakeBrowser
from tests.server.signin.people import change, person, within_5_s

Settings = dict[str, str]


@pytest.fixture(autouse=True)
def ada(certified: CertifiedProvider) -> None:
    address = {"email": "ada@example.com", "email_verified": True}
    certified.add("ada-1", preferred_username="Ada", **address, groups=["shop-developers"])


async def _is_signed_in(browser: Browser) -> bool:
    return "base_model" in (await browser.get("/readyz")).json()


async def test_the_first_sign_in_makes_an_account_with_the_providers_groups_as_teams(
    oidc: Settings, make_app: MakeApp, make_browser: MakeBrowser
) -> None:
    app = make_app(**oidc)
    browser = make_browser(app)
    assert not await _is_signed_in(browser)
    page = await browser.sign_in("ada-1")
    assert str(page.url) == f"{OURS}/signin" and "You are signed in as ada." in page.text
    assert await _is_signed_in(browser)
    found = person(app, "ada")
    assert found is not None and found.teams == {"shop-developers"}
    assert (found.user.role, found.user.email) == ("developer", "ada@example.com")


async def test_the_next_sign_in_finds_the_same_account_and_follows_groups(
    certified: CertifiedProvider, oidc: Settings, make_app: MakeApp, make_browser: MakeBrowser
) -> None:
    app = make_app(**oidc)
    await make_browser(app).sign_in("ada-1")
    before = person(app, "ada")
    with change(app) as made:
        assert before is not None
        made.add_member(made.add_team("by-hand"), before.user)
    claims = {"email": "eve@example.com", "email_verified": False, "groups": ["web", "platform"]}
    certified.add("ada-1", preferred_username="Renamed", **claims)
    await make_browser(app).sign_in("ada-1")
    after = person(app, "ada")
    assert after is not None and after.user.id == before.user.id
    assert after.teams == {"web", "platform", "by-hand"} and after.user.role == "admin"
    assert after.user.email == "ada@example.com"


async def test_whoever_leaves_the_admin_group_is_no_admin(
    certified: CertifiedProvider, oidc: Settings, make_app: MakeApp, make_browser: MakeBrowser
) -> None:
    app = make_app(**oidc)
    for name in ("ada-1", "eve-1"):
        certified.add(name, preferred_username=name[:3], groups=["platform"])
        await make_browser(app).sign_in(name)
    certified.add("ada-1", preferred_username="ada", groups=[])
    await make_browser(app).sign_in("ada-1")
    ada, eve = person(app, "ada"), person(app, "eve")
    assert ada is not None and eve is not None and (ada.user.role, eve.user.role) == ("developer", "admin")


async def test_the_last_admin_who_leaves_the_group_is_none_either(
    certified: CertifiedProvider, oidc: Settings, make_app: MakeApp, make_browser: MakeBrowser
) -> None:
    app = make_app(**oidc)
    for groups in (["platform"], []):
        certified.add("ada-1", preferred_username="ada", groups=groups)
        assert "You are signed in as ada." in (await make_browser(app).sign_in("ada-1")).text
    ada = person(app, "ada")
    assert ada is not None and ada.user.role == "developer"


async def test_a_name_or_address_alone_leads_to_nobodys_account(
    certified: CertifiedProvider, oidc: Settings, make_app: MakeApp, make_browser: MakeBrowser
) -> None:
    """Names and addresses go to other people some day."""
    app = make_app(**oidc)
    await make_browser(app).sign_in("ada-1")
    certified.add("other-7", preferred_username="Ada", email="ada@example.com", groups=["web"])
    page = await make_browser(app).sign_in("other-7")
    assert "You are signed in as ada-2." in page.text
    first = person(app, "ada")
    assert first is not None and first.teams == {"shop-developers"}


async def test_a_deactivated_account_is_out_at_once_and_stays_out(
    oidc: Settings, make_app: MakeApp, make_browser: MakeBrowser
) -> None:
    app = make_app(**oidc)
    browser = make_browser(app)
    await browser.sign_in("ada-1")
    found = person(app, "ada")
    with change(app) as made:
        assert found is not None
        made.set_active(found.user, False)

    async def is_out() -> bool:
        return not await _is_signed_in(browser)

    assert await within_5_s(is_out)
    page = await make_browser(app).sign_in("ada-1")
    assert page.status_code == 400 and "ada is deactivated" in page.text


async def test_a_role_that_is_given_or_taken_acts_within_seconds(
    oidc: Settings, make_app: MakeApp, make_browser: MakeBrowser
) -> None:
    """Metrics are for admins and auditors."""
    app = make_app(**oidc)
    browser = make_browser(app)
    await browser.sign_in("ada-1")
    found = person(app, "ada")
    assert found is not None and (await browser.get("/metrics")).status_code == 403
    with change(app) as made:
        made.add_user("root", role="admin")
        made.set_role(found.user, "admin")

    async def may() -> bool:
        return (await browser.get("/metrics")).status_code == 200

    async def may_not() -> bool:
        return not await may()

    assert await within_5_s(may)
    with change(app) as made:
        made.set_role(found.user, "developer")
    assert await within_5_s(may_not)


async def test_new_keys_of_the_provider_are_found_by_themselves(
    certified: CertifiedProvider, oidc: Settings, make_app: MakeApp, make_browser: MakeBrowser
) -> None:
    app = make_app(**oidc)
    await make_browser(app).sign_in("ada-1")
    certified.restart()
    assert "You are signed in as ada." in (await make_browser(app).sign_in("ada-1")).text


async def test_while_the_provider_is_down_sessions_go_on_and_newcomers_are_told(
    oidc: Settings, make_app: MakeApp, make_browser: MakeBrowser
) -> None:
    """The provider is down from the start for one of two servers on a database."""
    browser = make_browser(make_app(**oidc))
    assert "You are signed in as ada." in (await browser.sign_in("ada-1")).text
    cut_off = make_browser(make_app(**oidc | {"oidc_issuer": "http://127.0.0.1:9"}))
    cut_off.http.cookies.update(browser.http.cookies)
    assert await within_5_s(lambda: _is_signed_in(cut_off))  # on a busy machine "try again" may come first
    page = await cut_off.get("/signin/start")
    assert page.status_code == 503 and "can’t be reached" in page.text and page.headers["retry-after"]


async def test_an_answer_counts_once_and_in_the_browser_that_asked(
    oidc: Settings, make_app: MakeApp, make_browser: MakeBrowser
) -> None:
    app = make_app(**oidc)
    browser, other = make_browser(app), make_browser(app)
    answer = _answer(await browser.sign_in("ada-1"))
    for somebody in (browser, other):
        again = await somebody.get(answer)
        assert again.status_code == 400 and "belongs to no sign-in" in again.text
    await other.get("/signin/start")  # its own attempt, with somebody else's answer
    mixed = await other.get(answer)
    assert mixed.status_code == 400 and "belongs to no sign-in" in mixed.text
    assert not await _is_signed_in(other)


async def test_a_code_that_was_used_is_refused_by_the_provider(
    oidc: Settings, make_app: MakeApp, make_browser: MakeBrowser
) -> None:
    app = make_app(**oidc)
    browser, thief = make_browser(app), make_browser(app)
    code = httpx.URL(_answer(await browser.sign_in("ada-1"))).params["code"]
    thief.http.follow_redirects = False
    request = (await thief.get("/signin/start")).next_request
    assert request is not None
    state = request.url.params["state"]
    page = await thief.get(f"/signin/callback?code={code}&state={state}")
    assert page.status_code == 400 and "invalid_grant" in page.text


async def test_signing_in_begins_a_new_session_and_ends_the_old_one(
    certified: CertifiedProvider, oidc: Settings, make_app: MakeApp, make_browser: MakeBrowser
) -> None:
    """Else whoever planted a cookie in a browser would be signed in with it."""
    app = make_app(**oidc)
    browser = make_browser(app)
    await browser.sign_in("ada-1")
    old = browser.http.cookies["homespun-session"]
    await browser.sign_in("ada-1")
    assert browser.http.cookies["homespun-session"] != old
    planted = make_browser(app)
    planted.http.cookies.set("homespun-session", old, domain="127.0.0.1")
    assert not await _is_signed_in(planted)


async def test_signing_out_ends_the_session_on_the_server_too(
    oidc: Settings, make_app: MakeApp, make_browser: MakeBrowser
) -> None:
    app = make_app(**oidc)
    browser = make_browser(app)
    page = await browser.sign_in("ada-1")
    kept = browser.http.cookies["homespun-session"]
    gone = await browser.sign_out(page)
    assert "signed out" in gone.text
    assert "homespun-session" not in browser.http.cookies
    goodbye = re.search(r'class="button" href="([^"]+)"', gone.text)
    assert goodbye is not None and goodbye[1].startswith(oidc["oidc_issuer"])
    asked = await browser.http.get(html.unescape(goodbye[1]))
    assert asked.status_code == 200 and "sign-out" in asked.text.lower()
    browser.http.cookies.set("homespun-session", kept, domain="127.0.0.1")
    assert not await _is_signed_in(browser)


async def test_whoever_says_no_at_the_provider_is_not_signed_in(
    oidc: Settings, make_app: MakeApp, make_browser: MakeBrowser
) -> None:
    browser = make_browser(make_app(**oidc))
    asked = await browser.get("/signin/start")
    page = await browser.http.get(f"{asked.url!s}/abort")
    assert page.status_code == 400 and "access_denied" in page.text and not await _is_signed_in(browser)


@pytest.mark.parametrize("odd", ["a/b=1", "{}=x", "a[0]=1", '"', "novalue"])
async def test_what_others_on_this_host_set_signs_nobody_out(
    certified: CertifiedProvider, oidc: Settings, make_app: MakeApp, make_browser: MakeBrowser, odd: str
) -> None:
    browser = make_browser(make_app(**oidc))
    await browser.sign_in("ada-1")
    (session,) = (cookie for cookie in browser.http.cookies.jar if cookie.name == "homespun-session")
    browser.http.cookies.clear()
    browser.http.headers["Cookie"] = f"{odd}; {session.name}={session.value}"
    assert await _is_signed_in(browser)


async def test_browsers_are_led_to_the_page_they_wanted(
    oidc: Settings, make_app: MakeApp, make_browser: MakeBrowser
) -> None:
    browser = make_browser(make_app(**oidc))
    refused = await browser.http.get(f"{OURS}/metrics", headers={"Accept": "text/html"})
    assert refused.url.path == "/signin" and refused.url.params["next"] == "/metrics"
    assert (await browser.get("/metrics")).status_code == 401
    page = await browser.sign_in("ada-1", "/oauth/device")
    assert page.url.path == "/oauth/device"


def _answer(page: httpx.Response) -> str:
    """The address by which the provider sent the browser back."""
    return next(str(r.url) for r in page.history if r.url.path == "/signin/callback")
