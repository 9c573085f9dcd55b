"""The database, and how it is opened. Only the server uses it; SQLite by default, or PostgreSQL."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.util import CommandError
from sqlalchemy import Engine, create_engine, event
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError, SQLAlchemyError

from homespun_core.errors import ConfigError, StorageError


def open_database(url: str, default: Path) -> Engine:
    """Connected, with the newest schema. An empty `url` is SQLite at `default`. Raises ConfigError and StorageError;
    neither repeats a password."""
    if not url:
        default.parent.mkdir(parents=True, exist_ok=True)
    try:
        address = make_url(url) if url else make_url("sqlite://").set(database=str(default))
        engine = create_engine(address, pool_pre_ping=True)
    except (ArgumentError, NoSuchModuleError, ModuleNotFoundError, ValueError) as error:
        raise ConfigError(
            f"database_url: can't be used ({type(error).__name__}); it looks like sqlite:////var/lib/homespun/homespun.db"
            " or postgresql+psycopg://user@host/name (with the driver installed: pip install 'psycopg[binary]')"
        ) from None
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _prepare_sqlite)
    try:
        _migrate(engine)
    except (SQLAlchemyError, CommandError) as error:  # the second: a newer Homespun's tables
        engine.dispose()
        shown = address.render_as_string(hide_password=True)
        raise StorageError(
            f"{shown}: the database can't be opened ({type(error).__name__}); check database_url, or move it away"
        ) from error
    return engine


def _prepare_sqlite(connection: object, record: object) -> None:
    """Readers beside a writer, deletions that take their events along, and patience with other processes."""
    cursor = connection.cursor()  # type: ignore[attr-defined]  # a raw connection of the driver
    for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "foreign_keys=ON", "busy_timeout=5000"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _migrate(engine: Engine) -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
