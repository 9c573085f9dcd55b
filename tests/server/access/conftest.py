"""A database, and a server with people, both real."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import Engine

from homespun_core.config import Settings
from homespun_core.types import ModelFiles, Tokenizer
from homespun_server.access import reading
from homespun_server.access.audit import Actor
from homespun_server.access.changing import changing
from homespun_server.access.principal import Role, Scope
from homespun_server.app import build_app
from homespun_server.runtime import Runtime
from tests.server.access.gossip import GossipEngine

ADMIN = Actor(id="cli:test", origin="cli")


@pytest.fixture
def engine(database: Engine) -> Engine:
    """Of SQLite and of PostgreSQL in turn."""
    return database


class Served:
    """A server whose parts are loaded, and its people."""

    def __init__(self, settings: Settings, model: ModelFiles, tokenizer: Tokenizer) -> None:
        engine = GossipEngine(tokenizer, lambda name: "")
        self.app = build_app(settings, model, lambda model, settings: engine)
        self.runtime: Runtime = self.app.state.runtime
        loaded = threading.Event()
        self.runtime.start(lambda runtime: loaded.set())
        assert loaded.wait(60) and self.runtime.error is None

    def token(self, name: str, role: Role = "developer", scopes: Sequence[Scope] = ("complete",)) -> str:
        with changing(self.runtime.database, ADMIN) as change:
            user = reading.user_named(change.connection, name) or change.add_user(name, role=role)
            token = change.add_token(user, "test", scopes=scopes).text
        self.runtime.lookup.look()
        return token

    async def ask(self, method: str, path: str, token: str | None = None, **options: Any) -> httpx.Response:
        transport = httpx.ASGITransport(self.app, raise_app_exceptions=False)
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8080", headers=headers) as client:
            return await client.request(method, path, **options)


@pytest.fixture
def served(builtin: ModelFiles, tokenizer: Tokenizer, tmp_path: Path) -> Iterator[Served]:
    made = Served(Settings(data_dir=str(tmp_path / "data"), requests_per_minute=0), builtin, tokenizer)
    yield made
    made.runtime.close()
