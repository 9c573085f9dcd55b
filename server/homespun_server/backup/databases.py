"""The server's database, out into a file and back, each as of one moment: SQLite by its online backup, PostgreSQL by
`pg_dump`, which comes with it."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine, inspect
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from homespun_core.errors import ConfigError, StorageError
from homespun_server.backup.contents import POSTGRESQL, SQLITE
from homespun_server.database import opening

_VERSION = "SELECT version_num FROM alembic_version"


@dataclass(frozen=True, slots=True, kw_only=True)
class Database:
    """Where the settings say it is."""

    url: URL
    path: Path | None
    """Of SQLite's file; None is PostgreSQL."""

    @property
    def name(self) -> str:
        """Of its file in a backup."""
        return POSTGRESQL if self.path is None else SQLITE


def database_at(url: str, default: Path) -> Database:
    """Raises ConfigError."""
    try:
        address = make_url(url) if url else make_url("sqlite://").set(database=str(default))
    except ArgumentError:
        raise ConfigError("database_url: can't be read; see: homespun doctor") from None
    if address.get_backend_name() == "sqlite":
        return Database(url=address, path=Path(address.database or default))
    return Database(url=address, path=None)


def save(database: Database, folder: Path) -> str | None:
    """Write it into `folder`. Returns its schema's revision; None where there is no database yet. Raises
    StorageError."""
    if database.path is None:
        _postgres("pg_dump", database.url, "--format=custom", "--no-owner", "--no-acl", f"--file={folder / POSTGRESQL}")
        return revision_of(database)
    if not database.path.is_file():
        return None
    try:
        with (
            closing(sqlite3.connect(f"file:{quote(str(database.path))}?mode=rw", uri=True)) as source,
            closing(sqlite3.connect(folder / SQLITE)) as copy,
        ):
            source.backup(copy)
            copy.execute("PRAGMA journal_mode=DELETE")  # one file
            (verdict,) = copy.execute("PRAGMA quick_check(1)").fetchone()
            revision: str = copy.execute(_VERSION).fetchone()[0]
    except (sqlite3.Error, TypeError) as error:
        raise StorageError(f"{database.path}: can't be read as our database ({error}); see deploy/README.md") from error
    if verdict != "ok":
        raise StorageError(f"{database.path}: damaged ({verdict}); restore an earlier backup")
    return revision


def refuse_unknown(revision: str | None) -> None:
    """Raises StorageError when the schema is one of a newer Homespun."""
    config = Config()
    config.set_main_option("script_location", str(Path(opening.__file__).parent / "migrations").replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    if revision is not None and revision not in known:
        raise StorageError(f"schema {revision} is of a newer Homespun; restore with the version that made the backup")


def refuse_used(database: Database) -> None:
    """Raises StorageError when something is there already."""
    if database.path is not None:
        if database.path.exists():
            raise StorageError(f"{database.path}: exists already; restore to where there is no database yet")
    elif is_used(database):
        shown = database.url.render_as_string(hide_password=True)
        raise StorageError(f"{shown}: has tables already; restore into an empty database")


def load(database: Database, saved: Path) -> None:
    """All of a PostgreSQL dump or nothing."""
    options = ("--single-transaction", "--exit-on-error", "--no-owner", "--no-acl")
    _postgres("pg_restore", database.url, *options, str(saved))


def is_used(database: Database) -> bool:
    """Whether a PostgreSQL database has tables. Raises StorageError."""
    engine = create_engine(database.url, connect_args={"connect_timeout": 5})
    try:
        return bool(inspect(engine).get_table_names())
    except SQLAlchemyError as error:
        shown = database.url.render_as_string(hide_password=True)
        raise StorageError(f"{shown}: can't be reached ({type(error).__name__}); check database_url") from error
    finally:
        engine.dispose()


def revision_of(database: Database) -> str:
    engine = create_engine(database.url)
    try:
        with engine.connect() as connection:
            return str(connection.exec_driver_sql(_VERSION).scalar_one())
    finally:
        engine.dispose()


def _postgres(program: str, url: URL, *options: str) -> None:
    """The password goes by the environment: everybody on a machine sees what a command was started with."""
    if shutil.which(program) is None:
        raise ConfigError(f"{program}: not found; install PostgreSQL's client, of the server's version or a newer one")
    address = url.set(drivername="postgresql", password=None).render_as_string()
    own = os.environ | ({"PGPASSWORD": str(url.password)} if url.password else {})
    command = [program, "--no-password", *options[:-1], f"--dbname={address}", options[-1]]
    done = subprocess.run(command, env=own, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode:
        said = done.stderr.strip().splitlines() or ["it says nothing"]
        if "version mismatch" in said[0]:
            detail = said[-1].rpartition("detail: ")[2]
            raise StorageError(f"{program} is older than the server ({detail}); install the client of its version")
        raise StorageError(f"{program} failed: {said[0][:300]}")
