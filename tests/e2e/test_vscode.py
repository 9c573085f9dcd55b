"""The extension in the real Visual Studio Code, with the real language server."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.e2e.clients.vscode import HOMESPUN, VSCode, packaged, vscode
from tests.lsp.fake_server import FakeServer, fake_server

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
    async with vscode(folder, vsix, serverUrl=fake.url, command=str(HOMESPUN)) as opened:
        await opened.status("Homespun: ready")
        yield opened


async def test_ghost_text_appears_and_tab_accepts_it(code: VSCode, fake: FakeServer) -> None:
    fake.default = "llo(name)"
    await code.open("tab.py", "\n")
    await code.type("he")
    await code.shows("llo(name)")
    await code.press("Tab")
    await code.saved("tab.py", "hello(name)\n")
