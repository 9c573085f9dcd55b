"""Accounts for developers of benchmarks, made as `homespun users` and `homespun tokens` make them."""

from __future__ import annotations

from homespun_core.config import Settings
from homespun_core.paths import DataDir
from homespun_server.access.audit import Actor
from homespun_server.access.changing import changing
from homespun_server.access.principal import ALL_SCOPES
from homespun_server.database.opening import open_database

_BY = Actor(id="benchmark", origin="benchmark")


def with_accounts(settings: Settings, number: int) -> tuple[str, list[str]]:
    """The token of an admin, and those of `number` developers' editors."""
    engine = open_database(settings.database_url, DataDir(settings.data_root).database)
    try:
        with changing(engine, _BY) as change:
            admin = change.add_token(change.add_user("admin", role="admin"), "admin", scopes=ALL_SCOPES).text
            users = [change.add_user(f"developer-{n}") for n in range(number)]
            return admin, [change.add_token(user, "editor").text for user in users]
    finally:
        engine.dispose()
