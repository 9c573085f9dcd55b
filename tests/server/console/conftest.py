"""A company with two repositories, adapters, users and a month of completions, behind the real server."""

from __future__ import annotations

import random
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn

from homespun_core import registry
from homespun_core.aliases import MANUAL
from homespun_core.config import Settings
from homespun_core.paths import DataDir, repo_id
from homespun_core.repositories import RepositoryConfig
from homespun_core.types import ModelFiles, SilentProgress, Tokenizer
from homespun_indexer.indexing import index_repository
from homespun_indexer.repository import open_repository
from homespun_server.access import reading
from homespun_server.access.audit import Actor
from homespun_server.access.changing import changing
from homespun_server.access.principal import Role
from homespun_server.app import build_app
from homespun_server.feedback.facts import CompletionFact, Event, Fact
from homespun_server.feedback.store import FeedbackStore
from homespun_server.jobs.targets import Targets
from homespun_server.runtime import Runtime
from tests.core.adapters import REPORT
from tests.repos import SHOP, make_repo

HOSTILE = "<img src=x onerror=alert(1)>"
"""A folder may be called so, a file too, and whoever looks at the console mustn't be anybody else for it."""
SECRET = "hook-secret-canary"
VERSIONS = ("20260101-100000-aaaaaaaa", "20260201-100000-bbbbbbbb", "20260301-100000-cccccccc")
_WEB = "https://git.example.com/team/web.git"
"""Is in the settings, and was never indexed."""
ADMIN = Actor(id="local", origin="cli")


class Company:
    """`data` is what `made` made. It isn't served before `start`."""

    def __init__(self, data: DataDir, model: ModelFiles) -> None:
        self.data = data
        self.settings = Settings(
            data_dir=str(data.root),
            webhook_secret=SECRET,
            canary_percent=25.0,
            retrieve_deadline_ms=5_000,
            completion_deadline_ms=60_000,
        )
        self.shop, self.odd = sorted(p.name for p in data.index_root.iterdir())[::-1]
        self.web = repo_id(_WEB)
        self.app = build_app(
            self.settings,
            model,
            targets=Targets(data, [RepositoryConfig(source=_WEB, name="web")]),
            origins={"webhook_secret": "environment"},
        )
        self.runtime: Runtime = self.app.state.runtime
        _remember(FeedbackStore(self.runtime.database), self.shop, VERSIONS[1])
        self.app.state.jobs.ask("index", self.shop, asked_by=HOSTILE, known=True)
        self._loaded = threading.Event()

    def start(self) -> None:
        self.runtime.start(lambda runtime: self._loaded.set())
        assert self._loaded.wait(60) and self.runtime.error is None, self.runtime.error

    def client(self, user: str | None = None) -> httpx.AsyncClient:
        """A browser, signed in as that user."""
        transport = httpx.ASGITransport(self.app, raise_app_exceptions=False)
        cookies = {self.app.state.signin.cookie_name: self.session(user)} if user else None
        return httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8080", cookies=cookies)

    def session(self, user: str) -> str:
        """A cookie of somebody who signed in."""
        with self.runtime.database.connect() as connection:
            found = reading.user_named(connection, user)
        assert found is not None
        return str(self.app.state.signin.sessions.start(found.id))

    def add_user(self, name: str, role: Role, *patterns: str) -> str:
        with changing(self.runtime.database, ADMIN) as change:
            user = change.add_user(name, role=role)
            for pattern in patterns:
                change.grant(user, pattern)
        self.runtime.lookup.look()
        return user.id


@pytest.fixture(scope="session")
def made(
    tmp_path_factory: pytest.TempPathFactory, builtin: ModelFiles, tokenizer: Tokenizer, make_lora: Callable[..., Path]
) -> Path:
    """A data directory with two indexes and three adapters, to be copied."""
    root = tmp_path_factory.mktemp("company")
    data = DataDir(root / "data")
    odd = {f"{HOSTILE.replace('/', '-')}.py": f'NAME = "{HOSTILE}"\n', "empty.py": ""}
    shop, _ = (
        _indexed(make_repo(root / name, files), data, builtin, tokenizer)
        for name, files in (("shop", SHOP), (HOSTILE, odd))
    )
    lora = make_lora(Path(builtin.path), root / "lora")
    for version in VERSIONS:
        _publish(data.adapters(shop) / version, lora, builtin)
    registry.promote(data.adapters(shop), VERSIONS[0])
    registry.promote(data.adapters(shop), VERSIONS[1], by="ada", why=HOSTILE)
    registry.offer(data.adapters(shop), VERSIONS[2], MANUAL)
    return data.root


@pytest.fixture
def company(tmp_path: Path, made: Path, builtin: ModelFiles) -> Iterator[Company]:
    shutil.copytree(made, tmp_path / "data")
    found = Company(DataDir(tmp_path / "data"), builtin)
    yield found
    found.runtime.close()


@pytest.fixture
def running(company: Company) -> Company:
    company.start()
    return company


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, made: Path, builtin: ModelFiles) -> Iterator[tuple[Company, str]]:
    """On a port, for browsers."""
    place = tmp_path_factory.mktemp("served") / "data"
    shutil.copytree(made, place)
    company = Company(DataDir(place), builtin)
    server = uvicorn.Server(uvicorn.Config(company.app, host="127.0.0.1", port=0, log_config=None, access_log=False))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started or company.runtime.loaded is None:
        assert thread.is_alive() and company.runtime.error is None, company.runtime.error
        time.sleep(0.02)
    yield company, f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    thread.join()


def _indexed(place: Path, data: DataDir, model: ModelFiles, tokenizer: Tokenizer) -> str:
    progress, settings = SilentProgress(), Settings(data_dir=str(data.root), uncommitted=False)
    repo = open_repository(str(place), data, timeout_s=60, progress=progress)
    index_repository(repo, settings=settings, data=data, model=model, tokenizer=tokenizer, progress=progress)
    return repo.id


def _publish(version: Path, lora: Path, model: ModelFiles) -> None:
    sources, report = {"base_model": model.digest, "repository": "shop"}, REPORT | {"reasons": [f"better at {HOSTILE}"]}
    with registry.publish_adapter(version, fingerprint="f1nger", sources=sources, report=report) as folder:
        for file in ("adapter_config.json", "adapter_model.safetensors"):
            shutil.copy(lora / file, folder / file)
        (folder / "report.html").write_text(f"<!doctype html><title>Report</title><script>{HOSTILE}</script>")


def _remember(store: FeedbackStore, repo: str, adapter: str) -> None:
    chance, now, facts = random.Random(7), time.time(), list[Fact]()
    for number in range(600):
        at, about = now - chance.random() * 25 * 86_400 - 120, f"cmpl-{number}"
        own: dict[str, Any] = {
            "editor": chance.choice(("Neovim", "Visual Studio Code")),
            "latency_ms": 5.0 + number % 60,
        }
        own |= {"repository": repo, "adapter": adapter if number % 3 else None, "language": "python"}
        facts.append(CompletionFact(id=about, time=at, user=f"u{number % 5}", characters=30, first_line=30, **own))
        facts.append(Event(completion=about, kind="shown", time=at, characters=0))
        if number % 4 == 0:
            facts.append(Event(completion=about, kind="accepted", time=at + 1, characters=30))
            facts.append(Event(completion=about, kind="kept", time=at + 31, characters=20))
    store.write(facts)
