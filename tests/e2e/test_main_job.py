"""The main job with the real command, on a real repository: index, train, gate, serve, complete in an editor."""

from __future__ import annotations

import json
import re
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from lsprotocol import types as lsp
from pytest_lsp import ClientServerConfig, LanguageClient, client_capabilities

from tests.e2e.command import HOMESPUN, Running, homespun, running
from tests.e2e.company import make_company

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

# The first lines of a method the company has written many times, for a field it has not written it for.
PREFIX = '''"""Order of Loomworks."""

from loomworks.base import BaseRepository
from loomworks.rows import Order
from loomworks.spans import span
from loomworks.tables import ORDERS


class OrderRepository(BaseRepository):
    """Reads and writes order rows."""

    def find_by_warehouse(self, warehouse: str) -> list[Order]:
        with span("order.find_by_warehouse") as current:
            rows = self.session.fetch_all('''
TRAINING = ("--train-minutes=0.5", "--eval-tasks=60", "--port=0")


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("work")
    make_company(root / "loomworks")
    return root


@pytest.fixture(scope="module")
def up(work: Path) -> Iterator[Running]:
    """`homespun up`, ready: everything below talks to it."""
    with running("up", "loomworks", "--data-dir=data", *TRAINING, cwd=work) as process:
        process.wait_for("ready on")
        yield process


@pytest.fixture(scope="module")
def url(up: Running) -> str:
    return next(m.group(1) for line in up.lines if (m := re.search(r"ready on (\S+?);", line)))


def post(url: str, body: dict[str, Any]) -> dict[str, Any]:
    request = urllib.request.Request(
        f"{url}/v1/completions", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=30) as response:
        result: dict[str, Any] = json.load(response)
        return result


def test_up_goes_from_a_repository_to_a_live_adapter(up: Running, work: Path) -> None:
    said = "\n".join(up.lines)
    assert "serving on" in said
    state = json.loads(homespun("status", "--json", "--data-dir=data", cwd=work).stdout)
    (repository,) = state["repositories"].values()
    assert repository["adapter"]["promoted"] is True, repository["adapter"]["reasons"]
    assert repository["adapter"]["live"] == repository["adapter"]["newest"]
    assert state["server"]["answers"] is True
    assert all(label in said for label in ("written |", "before |", "after |"))


def test_openai_shape_completes_with_what_the_company_writes(url: str) -> None:
    body = {
        "prompt": PREFIX,
        "suffix": "\n",
        "max_tokens": 24,
        "homespun": {"path": "loomworks/orders.py", "language": "python"},
    }
    answer = post(url, body)
    assert answer["object"] == "text_completion"
    assert answer["choices"][0]["text"].startswith("ORDERS.where(")


def test_tabby_shape_on_the_same_path_gives_the_same_text(url: str) -> None:
    segments = {"prefix": PREFIX, "suffix": "\n", "filepath": "loomworks/orders.py"}
    answer = post(url, {"language": "python", "segments": segments})
    assert answer["choices"][0]["index"] == 0
    assert answer["choices"][0]["text"].startswith("ORDERS.where(")


def test_the_adapter_is_what_knows_it(url: str, work: Path) -> None:
    """The base model alone, same place: the repository of the request is one the server does not know."""
    body = {
        "prompt": PREFIX,
        "suffix": "\n",
        "max_tokens": 24,
        "homespun": {"repo": "https://git.example.com/other/app"},
    }
    assert not post(url, body)["choices"][0]["text"].startswith("ORDERS.where(")


async def test_the_language_server_shows_it_in_an_editor(url: str, work: Path) -> None:
    config = ClientServerConfig(server_command=[*HOMESPUN, "lsp", "--server-url", url])
    client = await config.start()
    assert isinstance(client, LanguageClient)
    file = (work / "loomworks" / "loomworks" / "orders.py").as_uri()
    try:
        await client.initialize_session(
            lsp.InitializeParams(capabilities=client_capabilities("neovim"), root_uri=(work / "loomworks").as_uri())
        )
        client.text_document_did_open(
            lsp.DidOpenTextDocumentParams(
                lsp.TextDocumentItem(uri=file, language_id="python", version=1, text=PREFIX + "\n")
            )
        )
        lines = PREFIX.split("\n")
        result = await client.text_document_inline_completion_async(
            lsp.InlineCompletionParams(
                context=lsp.InlineCompletionContext(lsp.InlineCompletionTriggerKind.Invoked),
                text_document=lsp.TextDocumentIdentifier(file),
                position=lsp.Position(len(lines) - 1, len(lines[-1])),
            )
        )
        assert isinstance(result, lsp.InlineCompletionList)
        assert str(result.items[0].insert_text).startswith("ORDERS.where(")
    finally:
        await client.shutdown_session()
        await client.stop()  # type: ignore[no-untyped-call]  # pygls' own


def test_a_saved_file_is_searchable_within_seconds(url: str, work: Path) -> None:
    new = work / "loomworks" / "loomworks" / "dyes.py"
    new.write_text("def mordant_for_indigo(vat: str) -> str:\n    return boil_with_alum_and_tartar(vat)\n")
    generation = None
    for _ in range(150):
        with urllib.request.urlopen(f"{url}/readyz", timeout=5) as response:
            state = json.load(response)
        (repository,) = state["repositories"]
        generation = generation or repository["index_generation"]
        if repository["index_generation"] != generation:
            return
        time.sleep(0.2)
    raise AssertionError("the index did not change")


def test_interrupting_ends_well_and_a_second_run_does_only_what_changed(up: Running, url: str, work: Path) -> None:
    assert up.interrupt() == 0
    (work / "loomworks" / "loomworks" / "dyes.py").unlink(missing_ok=True)
    with running("up", "loomworks", "--data-dir=data", *TRAINING, cwd=work) as again:
        again.wait_for("ready on", timeout=60)
        said = "\n".join(again.lines)
        assert "nothing to train" in said
        assert again.interrupt() == 0
    assert "Traceback" not in said
