"""Whoever has left is trained on no more."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from sqlalchemy import Engine

from homespun_core import personal
from homespun_core.cli import main
from homespun_core.config import Settings
from homespun_core.paths import DataDir
from homespun_core.personal import Wish
from homespun_core.types import ModelFiles, Tokenizer
from homespun_server import app
from homespun_server.access import leavers
from homespun_server.access.changing import changing
from homespun_server.jobs.keeper import Keeper
from tests.server.access.conftest import ADMIN
from tests.server.access.gossip import GossipEngine


def wanted(data: DataDir, user: str) -> Path:
    """Somebody's own adapter."""
    personal.want(data, Wish(user=user, name=user, authors=("00",), since=1.0))
    place = data.adapters(personal.personal_id(user, "shop-1"))
    place.mkdir(parents=True)
    return place


def test_what_a_deactivated_account_wanted_is_taken_back(engine: Engine, tmp_path: Path) -> None:
    """It was trained on until somebody erased it."""
    data = DataDir(tmp_path)
    with changing(engine, ADMIN) as change:
        ada, bob = change.add_user("ada"), change.add_user("bob")
    hers, his, unknown = (wanted(data, user) for user in (ada.id, bob.id, "of-another-database"))
    with changing(engine, ADMIN) as change:
        change.set_active(ada, False)
    leavers.take_back(data, engine)
    assert not personal.is_wanted(data, ada.id) and not hers.exists()
    assert personal.is_wanted(data, bob.id) and his.exists() and unknown.exists()


async def test_a_server_does_so_whoever_deactivates_them(
    builtin: ModelFiles, tokenizer: Tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def hurried(duties: Sequence[Callable[[], None]], every_s: float = 0.0) -> Keeper:
        return Keeper(duties, 0.05)

    monkeypatch.setattr(app, "Keeper", hurried)
    made = app.build_app(
        Settings(data_dir=str(tmp_path)), builtin, lambda model, settings: GossipEngine(tokenizer, lambda name: "")
    )
    async with made.router.lifespan_context(made):
        with changing(made.state.runtime.database, ADMIN) as change:
            ada = change.add_user("ada")
        hers = wanted(DataDir(tmp_path), ada.id)
        with changing(made.state.runtime.database, ADMIN) as change:
            change.set_active(ada, False)
        async with asyncio.timeout(30):
            while hers.exists():  # noqa: ASYNC110 - a thread deletes it
                await asyncio.sleep(0.02)


def test_the_command_does_so_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    where = ["--data-dir", str(tmp_path)]
    assert main(["user", "add", "ada", *where, "--json"]) == 0
    hers = wanted(DataDir(tmp_path), json.loads(capsys.readouterr().out)["id"])
    assert main(["user", "deactivate", "ada", *where]) == 0
    assert not hers.exists()
