"""The language server against the real one: the dialects it speaks to stock servers are those that ours understands."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from homespun_lsp.backends import BACKENDS
from homespun_lsp.backends.exchange import Ask
from homespun_lsp.connection import Connection
from homespun_lsp.context import Query
from homespun_lsp.servers import Server
from homespun_lsp.status import State
from tests.e2e.served import PREFIX, SUFFIX, Served, served
from tests.lsp.editor import editor

pytestmark = pytest.mark.e2e
QUERY = Query(prefix=PREFIX, suffix=SUFFIX, path="loomworks/invoices.py", language="python", repo=None, is_block=False)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("served")) as running:
        yield running


async def suggested(url: str, backend: str, fim: str = "auto") -> AsyncIterator[str]:
    connection = Connection(Server(url=url, backend=backend, fim=fim), lambda changed: None)
    try:
        for _ in range(2):  # the second time over the connection that the first has left
            answer = await connection.complete(Ask(query=QUERY, max_tokens=24, client="e"), timeout_ms=60_000)
            assert connection.status.state is State.READY, connection.status.message
            yield answer.text
    finally:
        await connection.close()


@pytest.mark.parametrize("backend", BACKENDS)
async def test_each_dialect_gets_what_the_server_knows_there(server: Served, backend: str) -> None:
    texts = [text async for text in suggested(server.url, backend)]
    assert texts[0] and texts[0] == texts[1] and "\n" not in texts[0]


@pytest.mark.parametrize("fim", ["suffix", "qwen2.5-coder", "starcoder2", "deepseek-coder"])
async def test_a_templated_prompt_says_what_a_suffix_says(server: Served, fim: str) -> None:
    plain = [text async for text in suggested(server.url, "openai", "suffix")]
    assert [text async for text in suggested(server.url, "openai", fim)] == plain


async def test_our_own_server_is_recognised_and_personalises(server: Served, tmp_path: Path) -> None:
    async with editor(serverUrl=server.url, debounceMs=0, maxTokens=24, timeoutMs=60_000) as session:
        item = await session.open(f"{PREFIX}|{SUFFIX}", tmp_path / "invoices.py").ghost()
        assert item and isinstance(item.insert_text, str)
        assert item.command and item.command.arguments and str(item.command.arguments[0]).startswith("cmpl-")
