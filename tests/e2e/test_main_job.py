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

from homespun_core.types import EvalTask
from tests.e2e.command import HOMESPUN, Running, homespun, running
from tests.e2e.company import make_company

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

TRAINING = ("--train-minutes=1.5", "--eval-tasks=60", "--port=0")


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


def test_the_first_training_was_a_job_that_could_be_watched(up: Running, url: str) -> None:
    with urllib.request.urlopen(f"{url}/v1/homespun/admin/jobs?kind=train", timeout=5) as response:
        (job,) = json.load(response)["jobs"]
    assert job["state"] == "done" and job["asked_by"] == "homespun retrain"
    assert any(line.startswith(f"homespun: job {job['id']}: cancel it with") for line in up.lines)
    with urllib.request.urlopen(f"{url}/console/jobs/{job['id']}", timeout=5) as response:
        page = response.read().decode()
    assert "the gate" in page and " | " not in page
    assert any("training the adapter" in line and "loss" in line for line in up.lines)


@pytest.fixture(scope="module")
def places(up: Running, work: Path) -> list[EvalTask]:
    """Lines the company wrote after what the adapter was trained on."""
    (path,) = (work / "data" / "corpus").glob("*/*/tasks.jsonl")
    return [EvalTask(**json.loads(line)) for line in path.read_text().splitlines()]


def ask(url: str, place: EvalTask, repo: str) -> str:
    where = {"path": place.path, "language": place.language, "repo": repo}
    body = {"prompt": place.prefix, "suffix": place.suffix, "max_tokens": 32, "homespun": where}
    answer = post(url, body)
    assert answer["object"] == "text_completion"
    return str(answer["choices"][0]["text"]).partition("\n")[0]


@pytest.fixture(scope="module")
def right(url: str, places: list[EvalTask]) -> list[EvalTask]:
    """The places where the server writes what the company wrote."""
    return [place for place in places if ask(url, place, "loomworks") == place.middle]


def test_what_it_learned_gets_more_lines_right(url: str, places: list[EvalTask], right: list[EvalTask]) -> None:
    """Against the same server asked for a repository it doesn't know: the base model alone."""
    base = [place for place in places if ask(url, place, "https://git.example.com/other/app") == place.middle]
    assert len(right) > len(base)


def test_tabby_shape_on_the_same_path_gives_the_same_text(url: str, right: list[EvalTask]) -> None:
    place = right[0]
    segments = {"prefix": place.prefix, "suffix": place.suffix, "filepath": place.path}
    answer = post(url, {"language": "python", "segments": segments})
    assert answer["choices"][0]["index"] == 0
    assert answer["choices"][0]["text"].partition("\n")[0] == place.middle


async def test_the_language_server_shows_it_in_an_editor(url: str, work: Path, right: list[EvalTask]) -> None:
    place = right[0]
    config = ClientServerConfig(server_command=[*HOMESPUN, "lsp", "--server-url", url])
    client = await config.start()
    assert isinstance(client, LanguageClient)
    root = work / "loomworks"
    file = (root / place.path).as_uri()
    lines = place.prefix.split("\n")
    try:
        await client.initialize_session(
            lsp.InitializeParams(capabilities=client_capabilities("neovim"), root_uri=root.as_uri())
        )
        item = lsp.TextDocumentItem(uri=file, language_id="python", version=1, text=place.prefix + place.suffix)
        client.text_document_did_open(lsp.DidOpenTextDocumentParams(item))
        result = await client.text_document_inline_completion_async(
            lsp.InlineCompletionParams(
                context=lsp.InlineCompletionContext(lsp.InlineCompletionTriggerKind.Invoked),
                text_document=lsp.TextDocumentIdentifier(file),
                position=lsp.Position(len(lines) - 1, len(lines[-1])),
            )
        )
        assert isinstance(result, lsp.InlineCompletionList)
        assert str(result.items[0].insert_text).partition("\n")[0] == place.middle
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
