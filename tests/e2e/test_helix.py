"""The settings of lsp/editors/README.md in the real Helix."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.clients.debian import command, unpacked
from tests.e2e.clients.terminal import terminal
from tests.e2e.command import HOMESPUN
from tests.lsp.fake_server import FakeServer
from tests.lsp.threaded import threaded_fake_server

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]  # the first download counts

README = Path(__file__).parents[2] / "lsp/editors/README.md"


@pytest.fixture
def fake() -> Iterator[FakeServer]:
    with threaded_fake_server() as server:
        yield server


def documented(fake: FakeServer) -> str:
    """The block for languages.toml, with this machine's command and our server alone."""
    (block,) = re.findall(r"```toml\n(\[language-server\.homespun\]\n.*?)```", README.read_text(), re.DOTALL)
    changes = {
        'command = "homespun"': f"command = {json.dumps(HOMESPUN[0])}",
        'args = ["lsp"]': f"args = {json.dumps([*HOMESPUN[1:], 'lsp'])}",
        # A menu isn't kept waiting longer than the deadline, and a test types no further key.
        '"https://homespun.example.com"': f"{json.dumps(fake.url)}, completionDeadlineMs = 20000",
        '["pylsp", "homespun"]': '["homespun"]',
    }
    for old, new in changes.items():
        assert old in block, f"{old} is not documented"
        block = block.replace(old, new)
    return str(block)


def test_the_menu_offers_it_and_takes_it_in(fake: FakeServer, tmp_path: Path) -> None:
    fake.default = "llo(name,\n      greeting)"
    (tmp_path / "helix").mkdir()
    (tmp_path / "helix/languages.toml").write_text(documented(fake))
    sample = tmp_path / "sample.py"
    sample.write_text("s = '🧶'; \n")
    root = unpacked("helix-25")
    environ = {"XDG_CONFIG_HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    with terminal([*command(root, "usr/bin/hx"), "sample.py"], tmp_path, environ) as helix:
        helix.wait_for("sample.py")
        helix.type("A")
        helix.wait_for("INS")
        helix.type("he")
        helix.wait_for("hello(name,", again="\x18")  # Ctrl-X asks, and tells nobody when the server isn't up yet
        helix.type("\t\r")
        helix.wait_for("greeting)")
        helix.type("\x1b")
        helix.wait_for("NOR")
        helix.type(":wq\r")
        helix.ended()
    assert sample.read_text() == "s = '🧶'; hello(name,\n      greeting)\n"
    assert fake.requests[0].body["prompt"].startswith("s = '🧶'; h")
