"""VS Code's editor (Monaco) in headless Chromium, a client of the real `homespun lsp`."""

from __future__ import annotations

import hashlib
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import cache
from pathlib import Path

from playwright.async_api import Error, Page, TimeoutError, async_playwright

from tests.e2e.clients import node
from tests.e2e.clients.chromium import FLAGS, PROJECT, chromium
from tests.e2e.clients.downloads import kept
from tests.e2e.clients.stdio import LanguageServer, language_server

_INDEX = """<!doctype html><meta charset="utf-8"><link rel="stylesheet" href="page.css">
<div id="editor" style="width: 760px; height: 300px"></div><script src="page.js"></script>
"""
URI = "file:///nowhere/sample.py"


class Monaco:
    def __init__(self, page: Page, server: LanguageServer) -> None:
        self.page = page
        self.server = server

    async def start(self, text: str, *, words: tuple[str, ...] = (), **options: object) -> None:
        """A document with the cursor at `|`; `words` are what the suggest widget offers. Requests can be counted."""
        options = {"prefetch": False} | options
        capabilities = {
            "textDocument": {"inlineCompletion": {"dynamicRegistration": True}},
            "general": {"positionEncodings": ["utf-16"]},
        }
        await self.page.evaluate("given => start(...given)", [capabilities, options, URI, text, words])

    async def type(self, text: str) -> None:
        await self.page.keyboard.type(text, delay=30)

    async def press(self, key: str) -> None:
        await self.page.keyboard.press(key)

    async def run(self, command: str) -> None:
        """A command of VS Code's."""
        await self.page.evaluate("command => run(command)", command)

    async def shows(self, ghost: str | None) -> None:
        """Waits until just this is to be seen."""
        try:
            await self.page.wait_for_function("ghost => window.ghost() === ghost", arg=ghost, timeout=30_000)
        except TimeoutError as error:
            raise AssertionError(f"shows {await self.page.evaluate('window.ghost()')!r}, not {ghost!r}") from error

    async def text(self) -> str:
        return str(await self.page.evaluate("text()"))

    async def cursor(self) -> int:
        return int(await self.page.evaluate("cursor()"))


@asynccontextmanager
async def monaco() -> AsyncIterator[Monaco]:
    page_folder, program = _built(), chromium()
    async with async_playwright() as playwright, language_server() as server:
        browser = await playwright.chromium.launch(executable_path=program, headless=True, args=FLAGS)
        page = await browser.new_page(viewport={"width": 776, "height": 316}, device_scale_factor=2)
        await page.expose_function("toServer", server.send_text)
        server.listener = lambda text: _tell(page, text)
        await page.goto((page_folder / "index.html").as_uri())
        try:
            yield Monaco(page, server)
        finally:
            server.listener = None
            await browser.close()


async def _tell(page: Page, text: str) -> None:
    """What the server says while the page is being closed is for nobody."""
    with suppress(Error):
        await page.evaluate("text => fromServer(text)", text)


@cache
def _built() -> Path:
    packages = node.installed(PROJECT)
    source = (PROJECT / "page.js").read_bytes() + _INDEX.encode()
    name = f"page-{packages.name}-{hashlib.sha256(source).hexdigest()[:12]}"
    return kept(name, lambda folder: _build(packages, folder))


def _build(packages: Path, folder: Path) -> None:
    words = [str(packages / "node_modules/.bin/esbuild"), str(PROJECT / "page.js"), "--bundle"]
    words += [f"--outfile={folder}/page.js", "--loader:.ttf=dataurl", "--log-level=error", "--minify"]
    subprocess.run(words, env={**node.environ(), "NODE_PATH": str(packages / "node_modules")}, check=True)
    (folder / "index.html").write_text(_INDEX)
