"""Our application with a database of its own and no model, since nobody completes here."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI

from homespun_core.config import Settings
from homespun_core.types import ModelFiles
from homespun_server.app import build_app
from homespun_server.runtime import Runtime, load_torch_engine
from tests.server.signin.certified import (
    CLIENT_ID,
    CLIENT_SECRET,
    OURS,
    Browser,
    CertifiedProvider,
    certified_provider,
)

MakeApp = Callable[..., FastAPI]
MakeBrowser = Callable[[FastAPI], Browser]


@pytest.fixture(scope="session")
def certified() -> Iterator[CertifiedProvider]:
    with certified_provider() as provider:
        yield provider


@pytest.fixture
def make_app(tmp_path: Path, builtin: ModelFiles) -> Iterator[MakeApp]:
    """Of these settings; several share a database, as replicas do."""
    made: list[FastAPI] = []

    def make(**settings: Any) -> FastAPI:
        app = build_app(Settings(data_dir=str(tmp_path), **settings), builtin, load_torch_engine)
        _runtime(app).lookup.start()
        made.append(app)
        return app

    yield make
    for app in made:
        app.state.signin.close()
        _runtime(app).close()


@pytest.fixture
def oidc(certified: CertifiedProvider) -> dict[str, str]:
    """Settings for that provider."""
    return {
        "public_url": OURS,
        "oidc_issuer": certified.issuer,
        "oidc_client_id": CLIENT_ID,
        "oidc_client_secret": CLIENT_SECRET,
        "oidc_scopes": "openid profile email groups",
        "oidc_admin_group": "platform",
    }


@pytest.fixture
async def make_browser() -> AsyncIterator[MakeBrowser]:
    closing: list[Callable[[], Awaitable[None]]] = []

    def make(app: FastAPI) -> Browser:
        browser = Browser(app)
        closing.append(browser.http.aclose)
        return browser

    yield make
    for close in closing:
        await close()


def _runtime(app: FastAPI) -> Runtime:
    runtime = app.state.runtime
    assert isinstance(runtime, Runtime)
    return runtime
