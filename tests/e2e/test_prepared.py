"""The first key after a file was opened, with the real server and the real language server."""

from __future__ import annotations

import asyncio
import re
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.served import PREFIX, SUFFIX, Served, served
from tests.lsp.editor import editor

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("served")) as started:
        yield started


def metric(server: Served, name: str) -> float:
    with urllib.request.urlopen(f"{server.url}/metrics", timeout=10) as reply:
        found = re.search(rf"^{re.escape(name)} (\S+)$", reply.read().decode(), re.MULTILINE)
    return float(found.group(1)) if found else 0.0


def tokens(server: Served) -> tuple[float, float]:
    """Of prompts so far, and of these what was there already."""
    return metric(server, 'homespun_tokens_total{kind="prompt"}'), metric(
        server, 'homespun_tokens_total{kind="cached"}'
    )


async def test_the_first_key_after_opening_a_file_computes_a_few_tokens(server: Served, tmp_path: Path) -> None:
    async with editor(serverUrl=server.url, prefetch=True, debounceMs=0) as session:
        buffer = session.open(f"{PREFIX}|{SUFFIX}", tmp_path / "invoices.py")
        place = {"line": buffer.position.line, "character": buffer.position.character}
        focus = {"textDocument": {"uri": buffer.uri}, "position": place}
        session.client.protocol.notify("textDocument/didFocus", focus)
        async with asyncio.timeout(60):
            while not metric(server, 'homespun_prepared_total{outcome="prepared"}'):  # noqa: ASYNC110  # nobody tells
                await asyncio.sleep(0.1)
        prompt, cached = tokens(server)
        assert prompt > 100 and cached == 0
        assert metric(server, 'homespun_completions_total{outcome="shown"}') == 0
        buffer.type("f")
        assert await buffer.ghost()
        then, then_cached = tokens(server)
    assert then_cached - cached >= then - prompt - 3 > 100
