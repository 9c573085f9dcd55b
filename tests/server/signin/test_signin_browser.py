"""The pages for signing in, in a real browser: light, dark, on a phone, by keyboard, without JavaScript."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest
import uvicorn
from fastapi import FastAPI
from playwright.sync_api import Browser, Page, sync_playwright

from tests.e2e.clients import axe
from tests.e2e.clients.chromium import FLAGS, chromium
from tests.server.signin.certified import OURS
from tests.server.signin.conftest import MakeApp
from tests.server.signin.people import token

pytestmark = pytest.mark.e2e

_FLAGS = [flag for flag in FLAGS if flag != "--single-process"]
Served = tuple[FastAPI, str]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    program = chromium()
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=program, headless=True, args=_FLAGS)
        yield opened
        opened.close()


@pytest.fixture
def served(make_app: MakeApp) -> Iterator[Served]:
    with _serving(
        make_app(api_token="the-servers-own", oidc_issuer="https://login.example.com", **_REGISTRATION)
    ) as it:
        yield it


@contextmanager
def _serving(app: FastAPI) -> Iterator[Served]:
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_config=None, lifespan="off"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        time.sleep(0.02)
    yield app, f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    thread.join()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_an_editor_is_connected_by_keyboard_alone_on_pages_that_keep_nobody_out(
    browser: Browser, served: Served, scheme: Any
) -> None:
    app, url = served
    text = token(app, "ada", "complete", "admin")
    asked = httpx.post(f"{url}/oauth/device/code", data={"client_id": "homespun-editor"}).json()
    context = browser.new_context(color_scheme=scheme, viewport={"width": 360, "height": 740})
    page, wrong = context.new_page(), list[str]()
    page.on("console", lambda message: wrong.append(message.text) if message.type == "error" else None)
    page.goto(f"{url}/oauth/device?user_code={asked['user_code']}")
    _is_for_everybody(page)
    _typed(page, "token", text)
    assert asked["user_code"] in page.inner_text("main")
    _is_for_everybody(page)
    page.keyboard.press("Tab")
    while page.evaluate("document.activeElement.value") != "approve":
        page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    page.wait_for_selector("text=goes on by itself")
    _is_for_everybody(page)
    context.close()
    assert not wrong


def test_it_all_works_without_javascript(browser: Browser, served: Served) -> None:
    app, url = served
    asked = httpx.post(f"{url}/oauth/device/code", data={"client_id": "homespun-editor"}).json()
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(f"{url}/oauth/device")
    page.fill("#token", "wrong")
    page.get_by_role("button", name="Sign in").click()
    assert "no token of this server" in page.inner_text("[role=alert]")
    page.fill("#token", token(app, "ada", "complete", "admin"))
    page.get_by_role("button", name="Sign in").click()
    page.fill("#user_code", asked["user_code"].lower())
    page.get_by_role("button", name="Continue").click()
    page.get_by_role("button", name="Refuse").click()
    assert "gets no access" in page.inner_text("main")
    page.get_by_role("button", name="Sign out").click()
    assert "Signed out" in page.inner_text("h1")
    context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_new_server_is_set_up_by_keyboard_on_pages_that_keep_nobody_out(
    browser: Browser, make_app: MakeApp, scheme: Any
) -> None:
    """From the address of the server to a first repository that waits to be indexed."""
    app = make_app(setup=True)
    with _serving(app) as (_, url):
        context = browser.new_context(color_scheme=scheme, viewport={"width": 360, "height": 740})
        page, wrong = context.new_page(), list[str]()
        page.on("console", lambda message: wrong.append(message.text) if message.type == "error" else None)
        page.goto(url)
        assert page.url == f"{url}/setup"
        _is_for_everybody(page)
        page.fill("#code", app.state.signin.setup.shown)
        _typed(page, "name", "ada")
        assert "Welcome, ada" in page.inner_text("h1")
        _is_for_everybody(page)
        page.get_by_role("link", name="Go on").click()
        page.wait_for_url("**/console")
        assert f"homespun login {url}" in page.inner_text("main")
        _is_for_everybody(page)
        _typed(page, "source", "https://git.example.com/shop.git")
        assert page.url == f"{url}/console/jobs/1" and "queued" in page.inner_text("main")
        context.close()
    assert not wrong


_REGISTRATION = {"public_url": OURS, "oidc_client_id": "homespun"}


def _typed(page: Page, id: str, text: str) -> None:
    """By whoever has no mouse."""
    while page.evaluate("document.activeElement.id") != id:
        page.keyboard.press("Tab")
    page.keyboard.type(text)
    with page.expect_navigation():
        page.keyboard.press("Enter")


def _is_for_everybody(page: Page) -> None:
    """axe finds nothing, contrast included, and nothing is wider than a phone."""
    assert axe.violations(page) == []
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
