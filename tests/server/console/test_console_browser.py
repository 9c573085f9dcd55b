"""The console in a real browser: light, dark, on a phone, by keyboard, without JavaScript, and for screen readers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from homespun_core import registry
from homespun_server.access import reading
from homespun_server.access.changing import changing
from homespun_server.access.principal import ALL_SCOPES
from tests.e2e.clients import axe
from tests.e2e.clients.chromium import FLAGS, chromium
from tests.server.console.conftest import ADMIN, HOSTILE, VERSIONS, Company
from tests.server.console.test_console_http import pages

pytestmark = pytest.mark.e2e

_FLAGS = [flag for flag in FLAGS if flag != "--single-process"]
"""In a single process the browser would end with its first page."""
Served = tuple[Company, str]
PREFIX = "from shop.prices import price_of\n\n\ndef total(items):\n    return sum(price_of("


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    program = chromium()
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=program, headless=True, args=_FLAGS)
        yield opened
        opened.close()


@contextmanager
def visiting(browser: Browser, url: str, **options: Any) -> Iterator[Page]:
    """A visit in which nothing went wrong: no error in the browser's console, no script that a page let in."""
    context = browser.new_context(base_url=url, **options)
    page, wrong = context.new_page(), list[str]()
    page.on("console", lambda message: wrong.append(message.text) if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("dialog", lambda dialog: wrong.append(dialog.message))
    try:
        yield page
    finally:
        context.close()
    assert not wrong


def explain(page: Page) -> None:
    page.goto("/console/playground")
    page.select_option("#repository", label="shop")
    page.fill("#path", "shop/new.py")
    page.fill("#prefix", PREFIX)
    page.get_by_role("button", name="Complete").click()
    page.wait_for_selector("#result")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nobody_is_kept_out(browser: Browser, served: Served, scheme: str) -> None:
    """axe finds nothing, contrast included; with everything folded out."""
    company, url = served
    with visiting(browser, url, color_scheme=scheme) as page:
        for path in pages(company):
            page.goto(path)
            page.eval_on_selector_all("details", "all => all.forEach(one => { one.open = true; })")
            assert axe.violations(page) == [], path
        explain(page)
        page.eval_on_selector_all("details", "all => all.forEach(one => { one.open = true; })")
        assert axe.violations(page) == []


def test_a_phone_shows_all_without_scrolling_sideways(browser: Browser, served: Served) -> None:
    company, url = served
    with visiting(browser, url, viewport={"width": 360, "height": 740}) as page:
        for path in pages(company):
            page.goto(path)
            assert page.evaluate("document.documentElement.scrollWidth") <= 360, path
        explain(page)
        assert page.evaluate("document.documentElement.scrollWidth") <= 360


def test_names_that_others_chose_are_text(browser: Browser, served: Served) -> None:
    company, url = served
    with visiting(browser, url) as page:
        page.goto("/console/repositories")
        page.get_by_role("link", name=HOSTILE).click()
        expect(page.get_by_role("heading", level=1)).to_have_text(HOSTILE)
        page.goto(f"/console/adapters/{company.shop}/{VERSIONS[1]}")
        expect(page.get_by_text(f"better at {HOSTILE}").first).to_be_visible()
        assert page.locator("img").count() == 0


def test_it_all_works_without_javascript(browser: Browser, served: Served) -> None:
    company, url = served
    place = company.data.adapters(company.shop)
    with visiting(browser, url, java_script_enabled=False) as page:
        for path in pages(company):
            page.goto(path)
            expect(page.get_by_role("heading", level=1)).to_be_visible()
        explain(page)
        expect(page.get_by_role("heading", name="With snippets, datastore, adapter")).to_be_visible()
        page.goto(f"/console/adapters/{company.shop}")
        page.get_by_label("Pin").check()
        page.get_by_label("Why").fill("the release is near")
        page.get_by_role("button", name="Decide").click()
        expect(page.get_by_role("status")).to_have_text("The champion is pinned.")
        assert registry.aliases(place).pinned
        registry.unpin(place, by="test")


def test_a_decision_is_made_by_keyboard_alone(browser: Browser, served: Served) -> None:
    company, url = served
    place = company.data.adapters(company.shop)
    with visiting(browser, url) as page:
        page.goto("/console")
        page.keyboard.press("Tab")
        expect(page.get_by_role("link", name="Skip to content")).to_be_focused()
        _tab_to(page, "Adapters")
        page.keyboard.press("Enter")
        page.wait_for_url("**/console/adapters")
        _tab_to(page, company.shop)
        page.keyboard.press("Enter")
        page.wait_for_selector("#why")
        _tab_to(page, "approve", "document.activeElement.value?.split('/')[0]")
        page.keyboard.press("ArrowDown")  # reject
        page.keyboard.press("ArrowDown")  # roll back
        page.keyboard.press("ArrowDown")
        _tab_to(page, "why", "document.activeElement.id")
        page.keyboard.type("by hand")
        page.keyboard.press("Enter")
        expect(page.get_by_role("status")).to_have_text("The champion is pinned.")
        registry.unpin(place, by="test")


def _tab_to(page: Page, wanted: str, what: str = "document.activeElement.textContent.trim()") -> None:
    for _ in range(60):
        if page.evaluate(what) == wanted:
            return
        page.keyboard.press("Tab")
    raise AssertionError(f"{wanted} can't be reached by keyboard")


def test_numbers_follow_what_happens_elsewhere(browser: Browser, served: Served) -> None:
    company, url = served
    place = company.data.adapters(company.shop)
    with visiting(browser, url) as page:
        page.goto("/console/adapters")
        row = page.get_by_role("row").filter(has_text=company.shop)
        expect(row).not_to_contain_text("(pinned)")
        registry.pin(place, by="test")
        expect(row).to_contain_text("(pinned)", timeout=20_000)
        registry.unpin(place, by="test")


def test_a_command_can_be_copied(browser: Browser, served: Served) -> None:
    _, url = served
    with visiting(browser, url, permissions=["clipboard-read", "clipboard-write"]) as page:
        page.goto("/console/people")
        page.get_by_role("button", name="Copy").first.click()
        expect(page.get_by_role("button", name="Copied")).to_be_visible()
        assert page.evaluate("navigator.clipboard.readText()") == "homespun user add ada --role admin"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_with_accounts_nobody_is_kept_out_either(browser: Browser, served: Served, scheme: str) -> None:
    """The last one, since from here on everybody must sign in."""
    company, url = served
    name = f"grace-{scheme}"
    company.add_user(name, "admin", "shop*")
    with changing(company.runtime.database, ADMIN) as change:
        user = reading.user_named(change.connection, name)
        assert user is not None
        change.add_member(change.add_team(f"team {HOSTILE} {scheme}"), user)
        token = change.add_token(user, HOSTILE, scopes=ALL_SCOPES)
    with visiting(browser, url, color_scheme=scheme, viewport={"width": 360, "height": 740}) as page:
        page.goto("/")
        assert axe.violations(page) == []
        page.get_by_label("token").fill(token.text)
        page.get_by_role("button", name="Sign in").click()
        page.wait_for_url("**/console")
        for path in ("/console/people", "/console/tokens"):
            page.goto(path)
            assert axe.violations(page) == [], path
            assert page.evaluate("document.documentElement.scrollWidth") <= 360, path
        page.get_by_label("Name").fill("laptop")
        page.get_by_role("button", name="Make").click()
        expect(page.get_by_role("heading", name="The new token")).to_be_visible()
        assert axe.violations(page) == []
        page.get_by_role("button", name="Sign out").click()
        page.goto("/console")
        assert page.url.endswith("/signin?next=/console")


def test_a_page_that_nobody_touches_lets_the_session_end(browser: Browser, served: Served) -> None:
    company, url = served
    with visiting(browser, url) as page:
        name = company.app.state.signin.cookie_name
        company.add_user("idle", "admin")
        page.context.add_cookies([{"name": name, "value": company.session("idle"), "url": url}])
        page.clock.install()
        page.goto("/console")
        assert [asks_after(page, minutes) for minutes in (1, 30, 1)] == [True, False, False]
        page.mouse.move(50, 50)
        assert asks_after(page, 1)


def asks_after(page: Page, minutes: int) -> bool:
    """Whether the page asks for its newest numbers by then."""
    asked = list[str]()
    page.on("request", lambda request: asked.append(request.url))
    page.clock.fast_forward(minutes * 60_000)
    page.wait_for_timeout(500)
    return bool(asked)
