"""Nobody gets a word of a repository that they may not read: by no route, through no cache, adapter, draft or log.

Two repositories hold a canary each, and the engine tells every canary that comes near it. Whoever may read a repository
gets its canary, by the same requests; else none of this would prove anything.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
import subprocess
import threading
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from fastapi.routing import iter_route_contexts
from starlette.routing import BaseRoute

from homespun_core import registry
from homespun_core.config import Settings
from homespun_core.paths import DataDir, repo_id
from homespun_core.repositories import RepositoryConfig
from homespun_core.scopes import ScopeConfig
from homespun_core.types import ModelFiles, SilentProgress, Tokenizer
from homespun_indexer.indexing import index_repository
from homespun_indexer.repository import open_repository
from homespun_server import routes
from homespun_server.access.audit import Actor
from homespun_server.access.changing import changing
from homespun_server.access.principal import ALL_SCOPES, Role
from homespun_server.app import build_app
from homespun_server.runtime import Runtime
from tests.server.access.gossip import GossipEngine, canaries

CODE = '''"""How {side} settles."""


def settle_{side}_invoice(ledger):
    marker = "canary_code_{side}"
    return ledger.close(marker)
'''
TYPED = "# canary_typed_ada\n"
TEAMS: Mapping[str, tuple[Role, tuple[str, ...]]] = {
    "root": ("admin", ()),
    "ada": ("developer", ("northerners",)),
    "eve": ("developer", ("northerners",)),
    "bob": ("developer", ("southerners",)),
    "aud": ("auditor", ("northerners", "southerners")),
    "out": ("developer", ()),
    "carl": ("developer", ("northerners", "southerners")),
    "dora": ("developer", ("northerners", "southerners", "travellers")),
}
NORTH = {"canary_code_north", "canary_lora_north", "canary_name_north"}
TYPED_BY_ADA = {"canary_typed_ada", "canary_sent_ada"}
SOUTH = {"canary_code_south", "canary_lora_both", "canary_name_south"}


@dataclass(frozen=True)
class World:
    app: FastAPI
    engine: GossipEngine
    data: DataDir
    tokens: Mapping[str, str]
    north: RepositoryConfig

    @property
    def north_id(self) -> str:
        return repo_id(self.north.source)

    @property
    def ways_to_say_north(self) -> tuple[str | None, ...]:
        name = Path(self.north.source).name
        return (None, name, self.north_id, self.north.source, "https://git.example.com/x/north.git")

    async def ask(self, user: str, method: str, path: str, body: Any = None, form: Any = None) -> httpx.Response:
        transport = httpx.ASGITransport(self.app, raise_app_exceptions=False)
        headers = {"Authorization": f"Bearer {self.tokens[user]}", "Sec-Fetch-Site": "same-origin"}
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8080", headers=headers) as client:
            return await client.request(method, path, json=body, data=form)

    async def completed(self, user: str, repo: str | None, /, **changes: Any) -> set[str]:
        body = asking(repo) | changes
        return canaries((await self.ask(user, "POST", "/v1/completions", body)).text)


def asking(repo: str | None, *, side: str = "north", typed: str = "") -> dict[str, Any]:
    """A body with the fields of every dialect, so that also a route that came later than this test is asked."""
    prefix, suffix = f"{typed}def settle_{side}_invoice(ledger):\n    marker =", "\n"
    return {
        "prompt": prefix,
        "suffix": suffix,
        "inputs": prefix,
        "input_prefix": prefix,
        "input_suffix": suffix,
        "model": "homespun",
        "language": "python",
        "max_tokens": 400,
        "n_predict": 400,
        "options": {"num_predict": 400},
        "input_extra": [{"filename": "src/open.py", "text": "# canary_sent_ada\n"}] if typed else [],
        "parameters": {"max_new_tokens": 400},
        "stream": False,
        "prefix": prefix,
        "path": "src/new.py",
        "repo": repo,
        "homespun": {"repo": repo, "path": "src/new.py", "user": "ada", "client": "ada"},
    }


def asking_as_tabby(repo: str | None) -> dict[str, Any]:
    body = asking(repo)
    segments = {"prefix": body["prompt"], "suffix": "\n", "filepath": "src/new.py", "git_url": repo}
    return {"language": "python", "segments": segments, "debug_options": {"return_snippets": True}, "user": "ada"}


def asking_as_page(repo: str | None) -> dict[str, str]:
    """As the forms of web pages call it."""
    body = asking(repo)
    return {
        "prefix": body["prompt"],
        "suffix": "\n",
        "path": "src/new.py",
        "repo": repo or "",
        "repository": repo or "",
    }


def _repository(root: Path, side: str, groups: tuple[str, ...]) -> RepositoryConfig:
    work = root / f"canary_name_{side}"
    work.mkdir()
    for number in range(3):
        (work / f"invoice_{number}.py").write_text(CODE.format(side=side))
    for words in (
        ["init", "-q", "-b", "main"],
        ["remote", "add", "origin", f"https://git.example.com/x/{side}.git"],
        ["add", "-A"],
        ["-c", "user.name=t", "-c", "user.email=t@example.com", "commit", "-q", "-m", "first"],
    ):
        subprocess.run(["git", *words], cwd=work, check=True, capture_output=True)
    return RepositoryConfig(source=str(work), groups=groups)


def _index(repo: RepositoryConfig, data: DataDir, model: ModelFiles, tokenizer: Tokenizer) -> None:
    opened = open_repository(repo, data, timeout_s=60, progress=SilentProgress())
    settings = Settings(data_dir=str(data.root))
    index_repository(opened, settings=settings, data=data, model=model, tokenizer=tokenizer, progress=SilentProgress())


def _adapter(data: DataDir, id: str, base: str, saw: list[str]) -> None:
    version = registry.new_version("a" * 8)
    sources = {"base_model": base, "repositories": " ".join(saw)}
    with registry.publish_adapter(data.adapters(id) / version, fingerprint="a" * 8, sources=sources, report={}) as tmp:
        (tmp / "adapter_config.json").write_text("{}")
        (tmp / "adapter_model.safetensors").write_bytes(b"")
    registry.promote(data.adapters(id), version)


def _people(runtime: Runtime) -> dict[str, str]:
    tokens = {}
    with changing(runtime.database, Actor(id="local", origin="cli")) as change:
        for name, (role, teams) in TEAMS.items():
            user = change.add_user(name, role=role)
            change.set_teams(user, teams, "admin")
            tokens[name] = change.add_token(user, "test", scopes=ALL_SCOPES).text
    return tokens


@pytest.fixture(scope="module")
def world(builtin: ModelFiles, tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    root = tmp_path_factory.mktemp("world")
    data = DataDir(root / "data")
    north, south = (_repository(root, side, (f"{side}erners",)) for side in ("north", "south"))
    for repo in (north, south):
        _index(repo, data, builtin, tokenizer)
    ids = [repo_id(repo.source) for repo in (north, south)]
    _adapter(data, ids[0], builtin.digest, ids[:1])
    _adapter(data, "@both", builtin.digest, ids)
    engine = GossipEngine(tokenizer, lambda name: "canary_lora_both" if name[0] == "@" else "canary_lora_north")
    settings = Settings(
        data_dir=str(data.root),
        max_new_tokens=400,
        retrieve_deadline_ms=5_000,
        completion_deadline_ms=60_000,
        requests_per_minute=0,
        user_requests_per_minute=0,
    )
    scopes = [ScopeConfig(name="both", repositories=(north, south), groups=("travellers",))]
    app = build_app(settings, builtin, lambda model, settings: engine, scopes=scopes)
    runtime: Runtime = app.state.runtime
    tokens, loaded = _people(runtime), threading.Event()
    runtime.lookup.look()
    runtime.start(lambda runtime: loaded.set())
    assert loaded.wait(60) and runtime.error is None
    yield World(app, engine, data, tokens, north)
    runtime.close()


@dataclass(frozen=True)
class Answer:
    way: str
    """Method, path, and what was sent."""
    is_asked: bool
    """Whether the engine was."""
    is_success: bool
    told: str
    """All of the answer."""

    @property
    def path(self) -> str:
        return self.way.split()[1].partition("?")[0]


def _doors(routes: Sequence[BaseRoute], north_id: str) -> list[tuple[str, str]]:
    """Each route and method; what a path leaves open is the repository's id."""
    found = []
    for route in iter_route_contexts(routes):
        path = re.sub(r"\{[^}]*\}", north_id, route.path_format or "")
        found += [(method, path) for method in route.methods or ()]
    return sorted(found)


async def _everything(world: World, user: str) -> AsyncIterator[Answer]:
    """What each route answers to each way of asking."""
    ways = world.ways_to_say_north
    bodies = [asking(repo) for repo in ways] + [asking(None) | {"stream": True}, *map(asking_as_tabby, ways)]
    sent = [(body, None) for body in bodies] + [(None, asking_as_page(repo)) for repo in ways]
    query = f"repository={world.north_id}&repo={world.north_id}&user=ada"
    for method, path in _doors(world.app.routes, world.north_id):
        has_body = method in ("POST", "PUT", "PATCH")
        asked_by_query: list[tuple[str, Any, Any]] = [(path, None, None), (f"{path}?{query}", None, None)]
        asked_by_body: list[tuple[str, Any, Any]] = [(path, body, form) for body, form in sent]
        for place, body, form in asked_by_body if has_body else asked_by_query:
            asked = world.engine.num_asked
            try:
                async with asyncio.timeout(20):
                    response = await world.ask(user, method, place, body, form)
            except TimeoutError:  # a stream that doesn't end
                continue
            told = f"{response.text} {json.dumps(dict(response.headers))}"
            yield Answer(
                way=f"{method} {place} {body or form}",
                is_asked=world.engine.num_asked > asked,
                is_success=response.is_success,
                told=told,
            )


async def test_whoever_may_read_it_gets_it_by_every_route_that_completes(world: World) -> None:
    await world.completed("ada", None, **asking(None, typed=TYPED))
    completing = set()
    async for answer in _everything(world, "ada"):
        if answer.is_asked:
            if answer.is_success:
                completing.add(answer.path)
            # These have a cache of their own each time.
            is_fresh = answer.path.startswith("/console/") or answer.path == "/v1/homespun/explain"
            cached = set() if is_fresh else {"canary_typed_ada"}
            assert canaries(answer.told) >= NORTH - {"canary_name_north"} | cached, answer.way
        assert not canaries(answer.told) & SOUTH, answer.way
    routers = (routes.completions.router, routes.explaining.router)
    doors = [path for router in routers for _, path in _doors(router.routes, world.north_id)]
    assert completing == {*doors, "/console/playground"} and len(doors) >= 12


@pytest.mark.parametrize("user", ["bob", "aud", "out"])
async def test_others_get_nothing_of_it_by_any_route(world: World, user: str) -> None:
    await world.completed("ada", None, **asking(None, typed=TYPED))
    num = 0
    async for answer in _everything(world, user):
        assert not canaries(answer.told) & (NORTH | TYPED_BY_ADA), answer.way
        if user != "bob":
            assert not canaries(answer.told), answer.way
        num += 1
    assert num > 20


async def test_none_of_several_prompts_is_answered_from_what_may_not_be_read(world: World) -> None:
    prompts = [str(asking(None)["prompt"])] * 3
    for stream in (False, True):
        for repo in world.ways_to_say_north:
            body = asking(repo) | {"prompt": prompts, "n": 2, "stream": stream}
            assert not canaries((await world.ask("bob", "POST", "/v1/completions", body)).text) & NORTH
    told = (await world.ask("ada", "POST", "/v1/completions", asking(world.north_id) | {"prompt": prompts})).json()
    assert all(canaries(choice["text"]) & NORTH for choice in told["choices"]) and len(told["choices"]) == 3


async def test_what_somebody_types_stays_their_own_also_among_those_who_read_the_same(world: World) -> None:
    await world.completed("ada", None, **asking(None, typed=TYPED))
    await world.ask("ada", "POST", "/infill", asking(None, typed=TYPED))
    assert await world.completed("ada", None) >= TYPED_BY_ADA
    async for answer in _everything(world, "eve"):
        assert not canaries(answer.told) & TYPED_BY_ADA, answer.way
    assert await world.completed("eve", None) >= {"canary_code_north", "canary_lora_north"}


async def test_a_shared_adapter_is_for_who_may_read_all_it_saw_and_is_in_its_groups(world: World) -> None:
    south = str(Path(world.north.source).with_name("canary_name_south"))
    body = asking(south, side="south")
    told = {user: await world.completed(user, south, **body) for user in ("root", "bob", "carl", "dora")}
    assert all("canary_code_south" in found for found in told.values())
    assert {user for user, found in told.items() if "canary_lora_both" in found} == {"root", "dora"}


async def test_what_is_copied_without_the_model_is_of_ones_own_repositories(world: World) -> None:
    world.engine.is_crowded = True
    try:
        told = {user: await world.completed(user, None) for user in ("ada", "bob", "out")}
    finally:
        world.engine.is_crowded = False
    assert "canary_code_north" in told["ada"] and not told["bob"] & NORTH and not told["out"]


async def test_a_repository_that_may_not_be_read_is_as_one_that_is_not_there(world: World) -> None:
    answers = [await world.ask("bob", "POST", "/v1/completions", asking(repo)) for repo in ("canary_name_north", "nil")]
    first, second = [{**answer.json(), "id": "", "created": 0} for answer in answers]
    assert first == second


async def test_no_log_no_metric_and_no_row_of_the_database_holds_code(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        assert await world.completed("ada", None, **asking(None, typed=TYPED)) >= {"canary_code_north"}
        metrics = (await world.ask("root", "GET", "/metrics")).text
    assert "homespun_completions_total" in metrics and not canaries(metrics)
    logged = " ".join(f"{record.getMessage()} {record.__dict__}" for record in caplog.records)
    assert "completion" in logged and _are_names(canaries(logged))
    await asyncio.sleep(0.5)  # what became of completions is written by a thread
    written = b"".join(path.read_bytes() for path in world.data.root.glob("homespun.db*")).decode("latin-1")
    assert "cmpl-" in written and _are_names(canaries(written))


def _are_names(found: set[str]) -> bool:
    """What operators see; a page of the database may hold a part of one."""
    return all(canary.startswith("canary_nam") for canary in found)


async def test_readiness_tells_of_what_may_be_read_and_no_more(world: World) -> None:
    told = {user: canaries((await world.ask(user, "GET", "/readyz")).text) for user in TEAMS}
    assert told["root"] == told["carl"] == {"canary_name_north", "canary_name_south"}
    assert told["ada"] == {"canary_name_north"} and told["bob"] == {"canary_name_south"}
    assert not told["out"] and not told["aud"]


async def test_metrics_are_for_auditors_and_admins(world: World) -> None:
    answers = {user: (await world.ask(user, "GET", "/metrics")).status_code for user in TEAMS}
    assert {user for user, status in answers.items() if status == 200} == {"root", "aud"}
    assert set(answers.values()) == {200, 403}
