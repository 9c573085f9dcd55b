"""The extension in the real Visual Studio Code, with the real language server."""

from __future__ import annotations

import json
import os
import signal
import zipfile
from collections import deque
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.e2e.clients.vscode import HOMESPUN, VSCode, packaged, vscode
from tests.lsp.fake_server import FakeServer, fake_server
from tests.lsp.signin.test_device import CODE, TOKEN, error

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600), pytest.mark.asyncio(loop_scope="module")]


@pytest.fixture(scope="module")
def vsix(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return packaged(tmp_path_factory.mktemp("package"))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def fake() -> AsyncIterator[FakeServer]:
    async with fake_server() as server:
        yield server


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def code(fake: FakeServer, vsix: Path, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[VSCode]:
    folder = tmp_path_factory.mktemp("vscode")
    async with vscode(folder, vsix, serverUrl=fake.url) as opened:
        await opened.status("Homespun: ready")
        yield opened


async def test_ghost_text_appears_and_tab_accepts_it(code: VSCode, fake: FakeServer) -> None:
    fake.default = "llo(name)"
    await code.open("tab.py", "\n")
    await code.type("he")
    await code.shows("llo(name)")
    await code.press("Tab")
    await code.saved("tab.py", "hello(name)\n")


async def test_where_the_cursor_rests_is_prepared_before_the_first_key(code: VSCode, fake: FakeServer) -> None:
    await code.open("prepared.py", "one = 1\n\n")
    await code.press("ArrowDown")
    await code.told(
        lambda: ("one = 1\n", 0) in [(r.body.get("prompt"), r.body.get("max_tokens")) for r in fake.requests]
    )


async def test_its_keys_accept_a_word_and_a_line(code: VSCode, fake: FakeServer) -> None:
    fake.default = "first(second)\nthird()"
    await code.open("keys.py", "\n")
    await code.type("x = ")
    await code.shows("first(second)")
    await code.press("Control+ArrowRight")
    await code.shows("(second)")
    await code.press("Control+Alt+ArrowRight")
    await code.saved("keys.py", "x = first(second)\n\n")


async def test_the_command_turns_suggestions_off_for_the_user_and_on_again(code: VSCode, fake: FakeServer) -> None:
    fake.default = "again"
    await code.open("toggle.py", "\n")
    await code.command("Homespun: Turn Suggestions On or Off")
    await code.status("suggestions are off")
    await code.setting("homespun.enable", False)
    before = len(fake.requests)
    await code.type("y = ")
    await code.saved("toggle.py", "y = \n")
    assert len(fake.requests) == before
    await code.command("Homespun: Turn Suggestions On or Off")
    await code.status("Homespun: ready")
    await code.asks_until_it_shows("again")


async def test_a_language_is_turned_off_by_itself(code: VSCode, fake: FakeServer) -> None:
    fake.default = "again"
    await code.open("language.py", "\n")
    await code.command("Homespun: Turn Suggestions On or Off for This Language")
    await code.status("suggestions are off for python")
    await code.setting("homespun.languages", {"python": False})
    await code.command("Homespun: Turn Suggestions On or Off for This Language")
    await code.status("Homespun: ready")
    await code.type("y = ")
    await code.asks_until_it_shows("again")


async def test_signing_in_shows_the_code_and_the_status_bar_follows(code: VSCode, fake: FakeServer) -> None:
    fake.pages |= {
        "/v1/models": deque([401, fake.pages["/v1/models"]]),
        "/oauth/device/code": CODE | {"interval": 0.1},
        "/oauth/token": deque([error("authorization_pending")] * 20 + [TOKEN]),
        "/oauth/revoke": {},
    }
    await code.command("Homespun: Restart")
    await code.status("sign in")
    await code.command("Homespun: Sign In")
    await code.says("enter the code WDJB-MJHT at https://code.example.com/oauth/device?user_code=WDJB-MJHT")
    await code.status("Homespun: ready")
    await code.command("Homespun: Sign Out")
    await code.told(lambda: [q.body["token"] for q in fake.questions if q.path == "/oauth/revoke"] == ["t0ken"])


async def test_a_restart_leaves_one_server_another_one(code: VSCode) -> None:
    await code.told(lambda: len(code.servers) == 1)
    before = code.servers
    await code.command("Homespun: Restart")
    await code.told(lambda: len(code.servers) == 1 and code.servers != before)
    await code.status("Homespun: ready")


async def test_a_click_on_the_status_bar_opens_the_menu(code: VSCode) -> None:
    await code.open("menu.py", "\n")
    await code.page.locator(".statusbar-item[aria-label*='Homespun: ready']").first.click()
    choice = code.page.locator(".quick-input-list .monaco-list-row")
    await choice.filter(has_text="Turn suggestions off for python").wait_for()
    shown = [label.strip() for label in await choice.all_inner_texts()]
    assert shown[0] == "Turn suggestions off" and {"Sign in", "Sign out", "Restart", "Show log"} < set(shown)
    await choice.filter(has_text="Turn suggestions off for python").click()
    await code.setting("homespun.languages", {"python": False})
    await code.command("Homespun: Turn Suggestions On or Off for This Language")
    await code.status("Homespun: ready")


async def test_the_log_can_be_shown(code: VSCode) -> None:
    await code.command("Homespun: Show Log")
    await code.page.locator(".part.panel:has-text('starting /')").wait_for()
    await code.press("Control+J")  # closes the panel


async def test_the_log_says_what_started_what_is_wrong_and_who_signed_in_and_no_code_nor_token(
    code: VSCode, fake: FakeServer
) -> None:
    """After all that was done before: restarts, signing in, completions."""
    fake.default = 500
    await code.open("log.py", "\n")
    await code.type("sesame_open = ")
    await code.asks_until(lambda: f"{fake.url} answers with status 500" in code.log)
    fake.default = "sesame_shut"
    await code.asks_until_it_shows("sesame_shut")
    await code.told(lambda: f"{fake.url} answers again" in code.log)
    assert f"starting {HOMESPUN} lsp" in code.log
    assert "signed in; the token is in" in code.log
    assert not any(secret in code.log for secret in ("sesame", "hello", "t0ken", "WDJB-MJHT"))
    await code.press("Control+S")  # nothing unsaved, which asks before a window is left


async def test_the_status_bar_says_that_server_or_command_is_missing(code: VSCode, fake: FakeServer) -> None:
    try:
        code.configure(serverUrl="http://127.0.0.1:1")
        await code.reload()
        await code.status("Homespun: http://127.0.0.1:1 ")
        code.configure(serverUrl=fake.url)
        code.command_is(Path("/nowhere/homespun"))
        await code.reload()
        await code.status("there is no program /nowhere/homespun")
    finally:  # the tests that follow need both
        code.configure(serverUrl=fake.url)
        code.command_is(HOMESPUN)
        await code.reload()
    await code.status("Homespun: ready")


async def test_a_server_that_keeps_ending_is_left_alone_and_the_status_bar_says_so(code: VSCode) -> None:
    """Without a pop-up in front of somebody who writes; a restart by hand works."""
    killed: set[int] = set()
    for _ in range(5):
        await code.told(lambda: bool(code.servers - killed))
        for server in code.servers - killed:
            os.kill(server, signal.SIGKILL)
            killed.add(server)
    await code.status("Homespun stopped: it ended several times")
    assert not await code.page.locator(".notification-toast:has-text('several times')").count()
    await code.command("Homespun: Restart")
    await code.status("Homespun: ready")


async def test_a_folder_that_is_open_cannot_say_where_code_is_sent(code: VSCode, fake: FakeServer) -> None:
    async with fake_server() as elsewhere:
        hostile = code.workspace / ".vscode"
        hostile.mkdir()
        (hostile / "settings.json").write_text(json.dumps({"homespun.serverUrl": elsewhere.url}))
        fake.default = "home()"
        await code.command("Homespun: Restart")
        await code.open("hostile.py", "\n")
        await code.type("go_")
        await code.asks_until_it_shows("home()")
        assert not elsewhere.requests


async def test_the_package_holds_what_is_needed_and_nothing_else(vsix: Path) -> None:
    files = {name.removeprefix("extension/") for name in zipfile.ZipFile(vsix).namelist()}
    assert {"package.json", "out/extension.js", "readme.md", "LICENSE.txt", "media/ghost-text.png"} <= files
    assert {name.split("/")[0] for name in files} == {
        "[Content_Types].xml",
        "extension.vsixmanifest",
        "package.json",
        "readme.md",
        "LICENSE.txt",
        "out",
        "media",
    }
