"""The database, and how it is opened. Only the server uses it; SQLite by default, or PostgreSQL."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.util import CommandError
from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DatabaseError, NoSuchModuleError, SQLAlchemyError

from homespun_core.errors import ConfigError, StorageError

RESTORING = ".restoring"
"""In a data directory that is being made of a backup; left there by a restore that was killed."""
_CONNECT_S = 5
_STATEMENT_S = 30.0
_turn = threading.Lock()
"""SQLite's own waiting is a lottery: of four threads that wrote a thousand times, one once waited for five seconds."""
_MIGRATING = 0x686F6D65
"""Of PostgreSQL's advisory locks: any number that nobody else uses."""


def open_database(url: str, default: Path) -> Engine:
    """Connected, with the newest schema. An empty `url` is SQLite at `default`. Raises ConfigError and StorageError;
    neither repeats a password."""
    if (default.parent / RESTORING).exists():
        raise StorageError(f"{default.parent}: a restore was cut off here; run the same `homespun restore` again")
    if not url:
        default.parent.mkdir(parents=True, exist_ok=True)
    try:
        address = make_url(url) if url else make_url("sqlite://").set(database=str(default))
        engine = create_engine(address, pool_pre_ping=True, connect_args=_patience(address.get_backend_name()))
    except (ArgumentError, NoSuchModuleError, ModuleNotFoundError, ValueError) as error:
        raise ConfigError(
            f"database_url: can't be used ({type(error).__name__}); it looks like sqlite:////var/lib/homespun/homespun.db"
            " or postgresql+psycopg://user@host/name (with the driver: pip install 'homespun[postgres]')"
        ) from None
    event.listen(engine, "connect", _prepare_sqlite if engine.dialect.name == "sqlite" else _prepare_postgresql)
    try:
        _migrate(engine)
    except (SQLAlchemyError, CommandError) as error:
        engine.dispose()
        raise StorageError(f"{address.render_as_string(hide_password=True)}: {_explained(engine, error)}") from error
    return engine


def _explained(engine: Engine, error: SQLAlchemyError | CommandError) -> str:
    if isinstance(error, CommandError):  # the revision that it is at is none of ours
        return (
            "a newer Homespun has written this database, and nothing was changed in it; use that version, or restore a"
            " backup of before to a new --data-dir (homespun restore)"
        )
    if engine.dialect.name == "sqlite" and type(error) is DatabaseError:  # its subclasses say what is around the file
        return _damaged("not a database, or a damaged one")
    folder = Path(engine.url.database or "").parent
    if engine.dialect.name == "sqlite" and not os.access(folder, os.W_OK):
        return f"{folder} can't be written to; where it is to be served as it is, set database_url to another place"
    return f"the database can't be opened ({type(error).__name__}); check database_url, or move it away"


def _damaged(verdict: str) -> str:
    return (
        f"the database is damaged ({verdict}); restore a backup to a new --data-dir (homespun restore), or move the"
        " file away and begin without accounts"
    )


@contextmanager
def failures_in_one_line() -> Iterator[None]:
    """For a command. Raises StorageError where a database that was opened fails: another process holds it for long, the
    network is away, the disk is full."""
    try:
        yield
    except SQLAlchemyError as error:
        raise StorageError(
            f"the database fails ({type(error).__name__}); nothing is half done, run the same command again"
        ) from error


def refuse_damaged(engine: Engine) -> None:
    """Raises StorageError where a page of SQLite's file is damaged: a server must not go on writing into it, or decide
    by it who may read what."""
    if engine.dialect.name != "sqlite":
        return
    try:
        with engine.connect() as connection:
            verdict = connection.exec_driver_sql("PRAGMA quick_check(1)").scalar_one()
    except SQLAlchemyError as error:
        verdict = type(error).__name__
    if verdict != "ok":
        raise StorageError(f"{engine.url.database}: {_damaged(str(verdict).splitlines()[-1])}")


@contextmanager
def writing(engine: Engine) -> Iterator[Connection]:
    """A transaction that may read, decide and write: on SQLite nobody else writes between, where one that began with
    reading would fail; on PostgreSQL what must not change meanwhile is selected `with_for_update`."""
    is_sqlite = engine.dialect.name == "sqlite"
    with _turn if is_sqlite else nullcontext(), engine.begin() as connection:
        if is_sqlite:
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        yield connection


def _patience(backend: str) -> dict[str, Any]:
    """A server that fell silent is noticed in a quarter of a minute; by itself, TCP takes a quarter of an hour."""
    if backend != "postgresql":
        return {}
    return {
        "connect_timeout": _CONNECT_S,
        "keepalives_idle": 5,
        "keepalives_interval": 5,
        "keepalives_count": 2,
        "tcp_user_timeout": 15_000,
    }


def _prepare_sqlite(connection: object, record: object) -> None:
    """Patience with other processes, readers beside a writer, commits that outlive a power cut, and deletions that take
    along what belongs to a row."""
    cursor = connection.cursor()  # type: ignore[attr-defined]  # a raw connection of the driver
    for pragma in ("busy_timeout=10000", "journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _prepare_postgresql(connection: Any, record: object) -> None:
    """No statement, and no lock that one waits for, holds a thread for ever; nor does a server that was stopped in the
    middle of a transaction hold the others'."""
    connection.execute(f"SET statement_timeout = {int(_STATEMENT_S * 1e3)}")
    connection.execute("SET idle_in_transaction_session_timeout = '60s'")
    connection.commit()


def unhurried(connection: Connection) -> None:
    """A transaction of statements that may take long."""
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql("SET LOCAL statement_timeout = 0")


def _migrate(engine: Engine) -> None:
    """All or nothing, by one process at a time: a second that starts beside it waits, and finds nothing to do."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    with writing(engine) as connection:
        unhurried(connection)
        if connection.dialect.name == "postgresql":
            connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_MIGRATING})")
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
