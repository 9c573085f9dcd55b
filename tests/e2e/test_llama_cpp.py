"""The language server against llama.cpp's own: a stock server, tried in a minute."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from homespun_lsp.backends.exchange import Ask
from homespun_lsp.connection import Connection
from homespun_lsp.context import Query
from homespun_lsp.servers import Server
from homespun_lsp.status import State
from tests.e2e.clients.llama_cpp import llama_server
from tests.lsp.editor import editor

pytestmark = pytest.mark.e2e
ABOVE = "def add(a, b):\n    return a + b\n\n\ndef subtract(a, b):\n    return a -"
BELOW = "\n\n\ndef multiply(a, b):\n    return a * b\n"
QUERY = Query(prefix=ABOVE, suffix=BELOW, path=None, language="python", repo=None, is_block=False)


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with llama_server(tmp_path_factory.mktemp("llama"), port) as address:
        yield address


async def completed(url: str, backend: str, fim: str = "auto") -> tuple[str, str]:
    connection = Connection(Server(url=url, backend=backend, fim=fim), lambda changed: None)
    answer = await connection.complete(Ask(query=QUERY, max_tokens=16, client="c"), timeout_ms=60_000)
    assert connection.status.state is State.READY, connection.status.message
    await connection.close()
    return connection.backend, answer.text


async def test_it_is_recognised_and_its_model_gets_the_prompt_in_its_own_form(url: str) -> None:
    assert await completed(url, "auto") == ("llama.cpp", " b")


async def test_it_is_asked_for_infills(url: str) -> None:
    """What the built-in model writes in this form, which is not its own, is another matter."""
    backend, text = await completed(url, "llama.cpp", fim="suffix")
    assert backend == "llama.cpp"
    assert text.strip() and "\n" not in text


async def test_its_openai_endpoint_gets_the_prompt_in_the_models_own_form(url: str) -> None:
    """It passes on what it is sent, as vLLM does; the model is known by its name."""
    assert await completed(url, "openai") == ("openai", " b")


async def test_it_completes_in_the_editor(url: str) -> None:
    async with editor(serverUrl=url, backend="openai", debounceMs=0, timeoutMs=60_000) as session:
        item = await session.open(f"{ABOVE}|{BELOW}").ghost()
        assert item and item.insert_text == " b"
        assert session.log == []
