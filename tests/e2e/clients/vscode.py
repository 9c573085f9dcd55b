"""The real Visual Studio Code, served by code-server and shown in headless Chromium, with our extension installed.

Nothing of it is compiled: what its native modules are for (terminals, file watching) goes without, but for its log,
which another module writes (`workbench/spdlog.js`).
"""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from playwright.async_api import Page, TimeoutError, async_playwright

from homespun_core.storage import write_atomic
from tests.e2e.clients import node
from tests.e2e.clients.chromium import FLAGS, chromium

ROOT = Path(__file__).parents[3]
EXTENSION = ROOT / "lsp/editors/vscode"
_PROJECT = Path(__file__).parent / "workbench"
HOMESPUN = Path(sys.executable).with_name("homespun")
_SETTINGS = {
    "workbench.startupEditor": "none",
    "workbench.secondarySideBar.defaultVisibility": "hidden",
    "chat.disableAIFeatures": True,
    "editor.quickSuggestions": {"other": "off"},
    "editor.autoClosingBrackets": "never",
    "extensions.autoCheckUpdates": False,
    "remote.autoForwardPorts": False,
    "telemetry.telemetryLevel": "off",
    "workbench.colorTheme": "Default Dark Modern",
    "editor.minimap.enabled": False,
    "security.workspace.trust.enabled": False,
}


def packaged(folder: Path) -> Path:
    """The .vsix, made as its README says in a copy of the source under `folder`."""
    packages, npm = node.installed(EXTENSION), node.npm()
    copy = folder / "lsp/editors/vscode"
    shutil.copytree(EXTENSION, copy, ignore=shutil.ignore_patterns("node_modules", "out", "*.vsix"))
    shutil.copy(ROOT / "LICENSE", folder)
    (copy / "node_modules").symlink_to(packages / "node_modules")
    result = subprocess.run(
        [*npm, "run", "package"], cwd=copy, env=node.environ(), capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return copy / "homespun.vsix"


class VSCode:
    def __init__(self, page: Page, workspace: Path, settings: Path) -> None:
        self.page = page
        self.workspace = workspace
        self._settings = settings

    async def open(self, name: str, text: str) -> None:
        """A file of the workspace, the cursor at its start."""
        file = self.workspace / name
        file.write_text(text)
        await self.press("Control+P")
        await self.page.locator(".quick-input-widget input").fill(str(file))  # whole, so that nothing is searched
        await self.page.locator(f".quick-input-list [aria-label^='{name}']").first.wait_for()
        await self.press("Enter")
        await self.page.locator(f".tab.active[data-resource-name='{name}']").wait_for()
        await self.page.locator(".editor-instance .native-edit-context, .editor-instance textarea").first.focus()
        await self.press("Control+Home")
        await self.status("Ln 1, Col 1")
        await self.press("Alt+Backslash")  # makes the part with ghost text, which VS Code does when it is idle

    async def type(self, text: str) -> None:
        await self.page.keyboard.type(text, delay=30)

    async def press(self, key: str) -> None:
        await self.page.keyboard.press(key)

    async def command(self, title: str) -> None:
        """Through the command palette."""
        await self.press("F1")
        await self.page.locator(".quick-input-widget input").fill(f">{title}")
        await self.page.locator(f".quick-input-list [aria-label^='{title}']").first.wait_for()
        await self.press("Enter")

    async def shows(self, ghost: str) -> None:
        try:
            await self.page.wait_for_function(_GHOST, arg=ghost, timeout=40_000)
        except TimeoutError as error:
            seen = await self.page.locator(".view-lines").first.inner_text()
            raise AssertionError(f"no {ghost!r} in {seen!r}") from error

    async def asks_until_it_shows(self, ghost: str) -> None:
        """By its key, again and again: new settings reach the language server a moment after somebody sees them."""
        async with asyncio.timeout(60):
            while not await self.page.evaluate(_GHOST, ghost):
                await self._ask()

    async def asks_until(self, holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(60):
            while not holds():
                await self._ask()

    async def _ask(self) -> None:
        """A blank comes and goes first: VS Code doesn't ask twice by hand at one place of one version of a text, even
        where it was told nothing (`UpdateRequest.satisfies`)."""
        await self.press("Space")
        await self.press("Backspace")
        await self.press("Alt+Backslash")
        await asyncio.sleep(1)

    async def status(self, text: str) -> None:
        """Waits until the status bar says so. A window that was just loaded took most of a minute on a busy machine."""
        try:
            await self.page.locator(f".statusbar-item[aria-label*='{text}']").first.wait_for(timeout=120_000)
        except TimeoutError as error:
            shown = await self.page.locator(".statusbar-item").evaluate_all(_LABELS)
            raise AssertionError(f"no {text!r} in {shown}; the log ends with {self.log[-1000:]!r}") from error

    async def reload(self) -> None:
        """The window, by which settings are read again: this VS Code doesn't notice that files change."""
        await self.page.reload()

    async def says(self, text: str) -> None:
        """In a notification."""
        await self.page.locator(f".notification-toast:has-text('{text}')").first.wait_for()

    async def told(self, holds: Callable[[], bool]) -> None:
        await _until(holds)

    async def saved(self, name: str, text: str) -> None:
        await self.press("Control+S")
        await _until(lambda: (self.workspace / name).read_text() == text)

    async def setting(self, name: str, value: object) -> None:
        """Waits until the user's settings have it."""
        await _until(lambda: self.settings.get(name) == value)

    @property
    def log(self) -> str:
        """All that is in the output channel, of all windows so far."""
        files = self._settings.parents[1].glob("logs/*/exthost*/*/*omespun*.log")
        return "".join(file.read_text() for file in sorted(files))

    @property
    def servers(self) -> set[int]:
        """The processes that are language servers of this editor's."""
        return {int(found.name) for found in Path("/proc").glob("[0-9]*") if self._is_server(found)}

    def _is_server(self, process: Path) -> bool:
        try:
            is_server = (process / "cmdline").read_bytes().rstrip(b"\0").endswith(b"homespun\0lsp")
            return is_server and str(self._settings.parents[2]).encode() in (process / "environ").read_bytes()
        except OSError:  # it has ended
            return False

    def command_is(self, command: Path) -> None:
        """The setting of the machine that runs the extension."""
        machine = self._settings.parents[1] / "Machine/settings.json"
        machine.write_text(json.dumps({"homespun.command": str(command)}))

    @property
    def settings(self) -> dict[str, object]:
        while not (text := self._settings.read_text()):  # VS Code empties the file before it writes it anew
            time.sleep(0.01)
        found: dict[str, object] = json.loads(text)
        return found

    def configure(self, **settings: object) -> None:
        """Of the section `homespun`."""
        new = self.settings | {f"homespun.{name}": value for name, value in settings.items()}
        self._settings.write_text(json.dumps(new))


_LABELS = "items => items.map(item => item.getAttribute('aria-label'))"
_GHOST = """ghost => ghost === [...document.querySelectorAll(".view-lines [class*='ghost-text-decoration']")]
    .map(span => span.textContent).join("").replaceAll("\\u00a0", " ")"""


@asynccontextmanager
async def vscode(folder: Path, vsix: Path, command: Path = HOMESPUN, **settings: object) -> AsyncIterator[VSCode]:
    server = _Server(folder)
    server.configure(command, {f"homespun.{name}": value for name, value in settings.items()})
    await server.run("--install-extension", str(vsix))
    async with server.listening() as url, async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium(), headless=True, args=FLAGS)
        page = await browser.new_page(viewport={"width": 900, "height": 500}, device_scale_factor=2)
        page.set_default_timeout(60_000)
        await page.goto(f"{url}/?folder={server.workspace}")
        try:
            yield VSCode(page, server.workspace, server.settings)
        finally:
            await browser.close()


class _Server:
    def __init__(self, folder: Path) -> None:
        package = node.installed(_PROJECT) / "node_modules/code-server"
        self._entry = package / "out/node/entry.js"
        write_atomic(
            package / "lib/vscode/node_modules/@vscode/spdlog/index.js", (_PROJECT / "spdlog.js").read_text("utf-8")
        )
        self._home = folder / "home"
        self.workspace = folder / "workspace"
        self.settings = folder / "data/User/settings.json"
        self._where = [f"--user-data-dir={folder}/data", f"--extensions-dir={folder}/extensions"]
        self._machine = folder / "data/Machine/settings.json"
        for made in (self._home, self.workspace, self.settings.parent, self._machine.parent):
            made.mkdir(parents=True)

    def configure(self, command: Path, settings: dict[str, object]) -> None:
        self.settings.write_text(json.dumps(_SETTINGS | settings))
        self._machine.write_text(json.dumps({"homespun.command": str(command)}))

    async def run(self, *words: str) -> None:
        process = await self._start(*words)
        output, _ = await process.communicate()
        assert process.returncode == 0, output.decode()

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[str]:
        process = await self._start(
            "--auth=none", "--bind-addr=127.0.0.1:0", "--disable-telemetry", "--disable-update-check"
        )
        assert process.stdout is not None
        try:
            yield await asyncio.wait_for(_address(process.stdout), 30)
        finally:
            process.terminate()
            await process.communicate()

    async def _start(self, *words: str) -> asyncio.subprocess.Process:
        environ = {**node.environ(), "HOME": str(self._home), "XDG_CONFIG_HOME": str(self._home)}
        environ |= {"XDG_STATE_HOME": str(self._home), "PYTHON_KEYRING_BACKEND": "keyring.backends.fail.Keyring"}
        for name in [name for name in environ if name.startswith("VSCODE_")]:
            del environ[name]
        return await asyncio.create_subprocess_exec(
            node.NODE,
            self._entry,
            *self._where,
            *words,
            env=environ,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )


async def _address(output: asyncio.StreamReader) -> str:
    said = b""
    while line := await output.readline():
        said += line
        if found := re.search(rb"listening on (http://[\d.:]+)", line):
            return found[1].decode()
    raise AssertionError(said.decode())


async def _until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(40):
        while not holds():  # noqa: ASYNC110  # about files, which tell nobody
            await asyncio.sleep(0.05)
