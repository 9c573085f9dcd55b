"""The site in a real browser, from a plain file server: light, dark, for screen readers, searched without a network."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Literal

import pytest
from playwright.sync_api import Browser, expect, sync_playwright

from tests.e2e.clients import axe
from tests.e2e.clients.chromium import FLAGS, chromium

pytestmark = pytest.mark.e2e

_FLAGS = [flag for flag in FLAGS if flag != "--single-process"]
"""In a single process the browser would end with its first page."""
_OF_THE_THEME = "landmark-unique"
"""It lists a section twice on wide screens, in the tabs and beside the text, and hides one with its styles."""


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *args: object) -> None: ...


@pytest.fixture(scope="module")
def address(site: Path) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(site)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    program = chromium()
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=program, headless=True, args=_FLAGS)
        yield opened
        opened.close()


@pytest.mark.parametrize(("scheme", "shown"), [("light", "default"), ("dark", "slate")])
@pytest.mark.parametrize("name", ["index", "runbooks/HomespunDown", "security/threat-model"])
def test_pages_can_be_read_by_everybody(
    browser: Browser, address: str, name: str, scheme: Literal["light", "dark"], shown: str
) -> None:
    context = browser.new_context(color_scheme=scheme)
    page = context.new_page()
    page.goto(f"{address}{name}.html")
    expect(page.locator("body")).to_have_attribute("data-md-color-scheme", shown)
    expect(page.locator(".md-search")).to_have_attribute("aria-label", "Search")
    found = [line for line in axe.violations(page) if not line.startswith(_OF_THE_THEME)]
    context.close()
    assert found == []


def test_search_finds_by_itself(browser: Browser, address: str) -> None:
    context = browser.new_context()
    page, asked = context.new_page(), list[str]()
    page.on("request", lambda request: asked.append(request.url))
    page.goto(f"{address}index.html")
    page.locator(".md-search__input").fill("more than 5 % are refused")
    expect(page.locator(".md-search-result__link").first).to_be_visible(timeout=30_000)  # its index is built first
    links = [link.get_attribute("href") or "" for link in page.locator(".md-search-result__link").all()]
    context.close()
    assert any("runbooks/HomespunShedding.html" in link for link in links)
    assert [url for url in asked if not url.startswith((address, "blob:"))] == []
