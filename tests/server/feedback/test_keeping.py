"""Completions kept with their prompts: in named repositories, once seen, without secrets; and nowhere else a word."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy import Engine

from homespun_core.config import Settings
from homespun_core.fim import FimFormat
from homespun_core.paths import DataDir, repo_id
from homespun_core.prompt import PromptBuilder, PromptLimits
from homespun_core.repositories import RepositoryConfig
from homespun_core.types import ModelFiles, Snippet, Tokenizer
from homespun_indexer import forgotten
from homespun_indexer.forgotten import Forgotten
from homespun_server.access import audit
from homespun_server.app import build_app
from homespun_server.engine.protocol import EngineRequest
from homespun_server.feedback import kept
from homespun_server.feedback.keeping import Whole, redacted
from homespun_server.feedback.keeping import kept as written
from homespun_server.feedback.kept import Kept
from homespun_server.feedback.recorder import Recorder
from homespun_server.feedback.store import FeedbackStore
from homespun_server.feedback.tables import kept_completions
from homespun_server.jobs.targets import Targets
from homespun_server.runtime import Runtime
from homespun_server.status import render
from tests.server.access.gossip import GossipEngine, GossipStream
from tests.server.conftest import Indexed
from tests.server.feedback.test_store import KEPT, fact, told

TOKEN = "sk_" + "live_4eC39HqLyjWDarjtT1zdp7dc"


class Listening(GossipEngine):
    """Remembers the last prompt."""

    def submit(self, request: EngineRequest) -> GossipStream:
        self.last = request.ids
        return super().submit(request)


@dataclass
class Served:
    app: FastAPI
    runtime: Runtime
    engine: Listening
    data: DataDir

    async def ask(self, method: str, path: str, body: Any = None) -> httpx.Response:
        transport = httpx.ASGITransport(self.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8080") as client:
            return await client.request(method, path, json=body)

    async def complete(self, canary: str, *kinds: str, extra: str = "", **about: Any) -> str:
        """The id of a completion whose prompt and text have this canary, and of which this is told."""
        homespun = {"path": "order.py", "snippets": [], **about}
        if extra:
            homespun["snippets"] = [{"path": extra, "text": f"marker = '{canary}_sent'"}]
        prompt = f"def marked():\n    marker = '{canary}'\n    other ="
        body = {"prompt": prompt, "suffix": "\n", "max_tokens": 200, "homespun": homespun}
        made = (await self.ask("POST", "/v1/completions", body)).json()
        assert canary in made["choices"][0]["text"]
        events = [{"completion": made["id"], "kind": kind} for kind in kinds]
        await self.ask("POST", "/v1/homespun/events", {"events": events})
        return str(made["id"])

    def close(self) -> None:
        self.runtime.close()

    def stored(self) -> str:
        return b"".join(p.read_bytes() for p in self.data.root.glob("homespun.db*")).decode("latin-1")


@pytest.fixture
def served(indexed: Indexed, builtin: ModelFiles, tokenizer: Tokenizer, tmp_path: Path) -> Iterator[Served]:
    made = _served(indexed, builtin, tokenizer, DataDir(tmp_path / "data"))
    yield made
    made.close()


def _served(
    indexed: Indexed, builtin: ModelFiles, tokenizer: Tokenizer, data: DataDir, keeps: bool = True, snippets: int = 5
) -> Served:
    indexed.build(data)
    config = RepositoryConfig(source=str(indexed.work_tree), keep_completions=keeps)
    settings = Settings(
        data_dir=str(data.root), retrieve_deadline_ms=5_000, completion_deadline_ms=60_000, snippet_count=snippets
    )
    engine = Listening(tokenizer, lambda name: "")
    app = build_app(settings, builtin, lambda model, settings: engine, targets=Targets(data, [config]))
    runtime, loaded = app.state.runtime, threading.Event()
    runtime.start(lambda runtime: loaded.set())
    assert loaded.wait(60) and runtime.error is None
    return Served(app, runtime, engine, data)


async def test_what_was_sent_of_a_foreign_file_is_heard_and_so_not_kept_though_no_prompt_holds_it(
    indexed: Indexed, builtin: ModelFiles, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    served = _served(indexed, builtin, tokenizer, DataDir(tmp_path / "data"), snippets=1)
    await served.complete("canary_foreign", "shown", repo="loom", extra="other/project.py")
    assert "canary_foreign_sent" not in tokenizer.decode(served.engine.last)
    id = await served.complete("canary_own", "shown", repo="loom")
    store = FeedbackStore(served.runtime.database)
    await asyncio.to_thread(_until, lambda: bool(store.num_kept()))
    served.close()
    with served.runtime.database.connect() as connection:
        assert [row.completion for row in connection.execute(kept_completions.select())] == [id]


async def test_what_was_seen_in_a_named_repository_is_kept_as_the_model_had_it_and_nothing_else_is(
    served: Served, indexed: Indexed, tokenizer: Tokenizer
) -> None:
    id = await served.complete("canary_seen", "shown", "dismissed", repo="loom")
    ids = served.engine.last
    await served.complete("canary_unseen", repo="loom")
    await served.complete("canary_dropped", "dismissed", repo="loom")
    await served.complete("canary_unsaid", "shown")
    await served.complete("canary_elsewhere", "shown", repo="nil")
    await served.complete("canary_secretfile", "shown", repo="loom", path=".env")
    await served.complete("canary_foreign", "shown", repo="loom", extra="other/project.py")
    store = FeedbackStore(served.runtime.database)
    await asyncio.to_thread(_until, lambda: bool(store.num_kept()))
    forgotten.add(served.data, Forgotten(repository=repo_id(str(indexed.work_tree)), path="voucher.py"))
    await served.complete("canary_forgotten", "shown", repo="loom", path="voucher.py")
    models = (await served.ask("GET", "/v1/models")).json()
    me = (await served.ask("GET", "/v1/homespun/me")).json()
    assert models["keeps_completions"] == me["keeps_completions"] == ["loom"], "and users are told"
    state = (await served.ask("GET", "/readyz")).json()
    served.close()
    told = store.told(repo_id(str(indexed.work_tree)))
    assert told == [], "what may still change isn't given to anybody"
    with served.runtime.database.connect() as connection:
        (row,) = connection.execute(kept_completions.select())
    assert (row.completion, tuple(row.ids)) == (id, ids) and "order.py" in row.paths
    assert "canary_seen" in row.prompt and "canary_seen" in row.text
    assert "keeps: 1 completions of" in render({"data_dir": "", "repositories": {}, "server": _up(state)})
    assert set(_canaries(served.stored())) == {"canary_seen"}


def _up(state: dict[str, Any]) -> dict[str, Any]:
    return {"url": "", "answers": True, **state}


def _canaries(text: str) -> list[str]:
    return [name for name in _CANARIES if name in text]


_CANARIES = [
    f"canary_{n}" for n in ("seen", "unseen", "dropped", "unsaid", "elsewhere", "secretfile", "foreign", "forgotten")
]


def _until(is_done: Any) -> None:
    deadline = time.monotonic() + 20
    while not is_done() and time.monotonic() < deadline:
        time.sleep(0.02)


async def test_taking_the_repository_out_of_the_settings_deletes_what_was_kept_and_both_are_audited(
    indexed: Indexed, builtin: ModelFiles, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    data, actions = DataDir(tmp_path / "data"), []
    for keeps in (True, True, False):
        server = _served(indexed, builtin, tokenizer, data, keeps)
        await server.complete("canary_seen", "shown", repo="loom")
        store = FeedbackStore(server.runtime.database)
        if keeps:
            await asyncio.to_thread(_until, lambda: bool(store.num_kept()))  # noqa: B023 - waited for here
        else:
            await asyncio.to_thread(_until, lambda: not store.num_kept())  # noqa: B023
            assert not store.num_kept()
        with server.runtime.database.connect() as connection:
            actions = [(entry.action, entry.object) for entry in audit.entries(connection)]
        server.close()
    subject = f"repository:{repo_id(str(indexed.work_tree))}"
    assert actions == [("completions.keep", subject), ("completions.keep-not", subject)]


def row(id: str, *, repository: str = "shop", at: float = 1.0, paths: tuple[str, ...] = ("a.py",)) -> Kept:
    return Kept(
        completion=id,
        time=at,
        repository=repository,
        paths=paths,
        prompt="a = ",
        ids=(1, 2),
        opening="",
        text="1",
        base="b",
        adapter=None,
    )


def ids(store: FeedbackStore, repository: str = "shop") -> list[str]:
    return [found.kept.completion for found in store.told(repository)]


def test_the_file_of_a_kept_completion_is_that_of_the_cursor_not_of_a_snippet(database: Engine) -> None:
    store = FeedbackStore(database)
    store.write([fact("a"), fact("b")], [row("a", at=5.0, paths=("pay.py", "lib.py")), row("b", at=1.0)])
    assert store.files_of_kept(2.0) == {"a": "pay.py"}


def test_a_kept_completion_is_read_with_what_became_of_it(database: Engine) -> None:
    store = FeedbackStore(database)
    store.write([fact("a"), fact("b"), told("a", "shown", 0), told("a", "accepted", 7)], [row("a"), row("nobody")])
    store.write([told("b", "dismissed", 0)], [row("b", at=2.0), row("a")])
    first, second = store.told("shop")
    assert first.kept == row("a") and first.outcome.accepted_characters == 7
    assert (first.is_dismissed, second.is_dismissed) == (False, True)
    store.write([fact("not kept"), told("not kept", "accepted", 7)])
    assert store.outcomes(None, 0.0, only_kept=True) == [first.outcome, second.outcome]
    assert store.num_kept() == {"shop": 2}


def test_it_goes_with_its_user_with_its_time_and_with_its_repository_name(database: Engine) -> None:
    store, now = FeedbackStore(database), time.time()
    facts = [fact("a", at=now - 99), fact("b", user="bob", at=now - 99), fact("c", user="bob", at=now - 99)]
    store.write(facts, [row("a", at=now - 99), row("b", at=now - 9e5), row("c", at=now - 99)])
    store.keep_only(["shop"], 5.0)
    assert ids(store) == ["a", "c"]
    store.forget_user("ann")
    assert ids(store) == ["c"]
    store.keep_only(["other"], 5.0)
    assert ids(store) == [] and len(store.outcomes(None, 0)) == 2


@pytest.mark.parametrize(
    ("request_", "left"),
    [
        (Forgotten(repository="shop", path="pay/**"), ["b"]),
        (Forgotten(repository="shop"), []),
        (Forgotten(author="a hash"), []),
        (Forgotten(repository="other"), ["a", "b"]),
    ],
)
def test_what_is_forgotten_by_path_repository_or_author_goes_whether_file_or_snippet(
    database: Engine, request_: Forgotten, left: list[str]
) -> None:
    store = FeedbackStore(database)
    store.write([fact("a"), fact("b")], [row("a", paths=("x.py", "pay/card.py")), row("b", at=2.0)])
    assert kept.forget(database, request_) == 2 - len(left)
    assert ids(store) == left


@pytest.fixture
def whole(tokenizer: Tokenizer, fim: FimFormat) -> Whole:
    builder = PromptBuilder(tokenizer=tokenizer, format=fim, limits=PromptLimits(max_tokens=300), is_healing=True)
    snippets = [Snippet(path="b.py", start_line=1, text="def pay(): ...", score=1.0, source="usage")]
    prompt = builder.build(prefix="x = pa", suffix="\n", path="a.py", repo="shop", snippets=snippets)
    return Whole(
        id="a",
        time=1.0,
        user="ann",
        repository="shop",
        name="shop",
        path="a.py",
        language=None,
        prefix="x = pa",
        suffix="\n",
        prompt=prompt,
        paths=("a.py", "b.py"),
        text="y()",
        base="b",
        adapter=None,
        builder=builder,
    )


def test_a_prompt_without_secrets_is_kept_token_by_token(whole: Whole) -> None:
    assert redacted(whole) == (whole.prompt, "y()")


def test_secrets_in_file_and_snippets_are_placeholders_as_in_training(
    whole: Whole, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    secret = Snippet(path="b.py", start_line=1, text=f'key = "{TOKEN}"', score=1.0, source="usage")
    prefix = f'other = "{TOKEN}"\nx = pa'
    prompt = whole.builder.build(prefix=prefix, suffix="\n", path="a.py", repo="shop", snippets=[secret])
    found = written(DataDir(tmp_path), replace(whole, prefix=prefix, prompt=prompt))
    assert found is not None and TOKEN in tokenizer.decode(prompt.ids)
    assert TOKEN not in found.prompt + tokenizer.decode(found.ids) and "x =" in found.prompt
    assert found.paths == ("a.py", "b.py") and found.opening == " pa"


@pytest.mark.parametrize(("prefix", "text"), [('key = "', f'{TOKEN}"'), (f'key = "{TOKEN[:12]}', f'{TOKEN[12:]}"')])
def test_a_secret_that_is_completed_is_not_kept(whole: Whole, prefix: str, text: str) -> None:
    assert redacted(replace(whole, prefix=prefix, text=text)) is None


def test_a_completion_that_cannot_be_redacted_takes_nothing_else_with_it(database: Engine, whole: Whole) -> None:
    store = FeedbackStore(database)
    lost: list[tuple[str, int]] = []

    def fails_for_one(found: Whole) -> Kept:
        if found.id == "odd":
            raise RecursionError
        return row(found.id)

    recorder = Recorder(
        store, retention=KEPT, on_lost=lambda why, number: lost.append((why, number)), kept=fails_for_one
    )
    for id in ("odd", "a"):
        recorder.hold(replace(whole, id=id))
        recorder.record(fact(id))
        recorder.record(told(id, "shown", 0))
    while recorder.num_kept != {"shop": 1}:
        time.sleep(0.01)
    assert ids(store) == ["a"] and len(store.outcomes(None, 0)) == 2 and lost == [("failed", 1)]
    recorder.close()


def test_nothing_is_kept_where_what_is_to_be_forgotten_cannot_be_read(whole: Whole, tmp_path: Path) -> None:
    data = DataDir(tmp_path)
    assert written(data, whole) is not None
    data.forgotten.parent.mkdir(parents=True, exist_ok=True)
    data.forgotten.write_text("{")
    assert written(data, whole) is None
