"""Opening the database: from every earlier schema with rows in it, by several processes at once, and what is wrong."""

from __future__ import annotations

import importlib
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Engine, MetaData, create_engine

import homespun_server
from homespun_core.errors import ConfigError, StorageError
from homespun_server.database import opening
from homespun_server.database.opening import open_database, refuse_damaged, writing
from homespun_server.database.schema import metadata

SERVER = Path(homespun_server.__file__).parent
for tables in SERVER.rglob("tables.py"):
    importlib.import_module(".".join(("homespun_server", *tables.relative_to(SERVER).with_suffix("").parts)))
MIGRATIONS = Path(opening.__file__).parent / "migrations"
REVISIONS = sorted(revision.revision for revision in ScriptDirectory(str(MIGRATIONS)).walk_revisions())

_OPEN = """
import sys
from pathlib import Path
from homespun_server.database.opening import open_database
sys.stdin.readline()
open_database(sys.argv[1], Path("unused")).dispose()
"""


def upgraded(url: str, revision: str) -> Engine:
    engine = create_engine(url)
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.set_main_option("path_separator", "os")
    with writing(engine) as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, revision)
    return engine


def filled(engine: Engine) -> dict[str, list[dict[str, Any]]]:
    """A row in each table, and what is read back of them."""
    tables = MetaData()
    tables.reflect(engine)
    own = [table for table in tables.sorted_tables if table.name != "alembic_version"]
    with engine.begin() as connection:
        for table in own:
            if connection.execute(table.select()).first() is None:  # else the migration itself put one there
                connection.execute(table.insert().values(_row(table)))
        return {t.name: [dict(row) for row in connection.execute(t.select()).mappings()] for t in own}


def _row(table: sa.Table) -> dict[str, Any]:
    """Of the references that may be absent only the first is there: some tables are about one thing or another."""
    optional = [c.name for c in table.columns if c.nullable and c.foreign_keys]
    return {c.name: _value(c) for c in table.columns if c.name not in optional[1:]}


def _value(column: sa.Column[Any]) -> Any:
    """The same for columns that refer to each other, as all of one type get the same."""
    kind = column.type
    if isinstance(kind, sa.JSON):
        return {"a": 1}
    if isinstance(kind, sa.Boolean):
        return True
    if isinstance(kind, sa.DateTime):
        return datetime(2026, 11, 29, tzinfo=UTC)
    if isinstance(kind, sa.LargeBinary):
        return b"x"
    return "x" if isinstance(kind, sa.String) else 1


@pytest.mark.parametrize("revision", REVISIONS)
def test_every_earlier_schema_is_brought_forward_with_all_its_rows(
    revision: str, database_url: str, tmp_path: Path
) -> None:
    old = upgraded(database_url, revision)
    before = filled(old)
    old.dispose()
    engine = open_database(database_url, tmp_path / "unused.db")
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
        for name, rows in before.items():
            after = [dict(row) for row in connection.execute(metadata.tables[name].select()).mappings()]
            assert [{column: row[column] for column in rows[0]} for row in after] == rows
    engine.dispose()


def test_two_processes_that_start_at_once_make_one_schema(database_url: str, tmp_path: Path) -> None:
    started = [
        subprocess.Popen(
            [sys.executable, "-c", _OPEN, database_url], stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for _ in range(4)
    ]
    for process in started:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    for process in started:
        _, complaint = process.communicate(timeout=60)
        assert process.returncode == 0, complaint
    engine = open_database(database_url, tmp_path / "unused.db")
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
    engine.dispose()


def test_the_migrations_make_the_tables_that_the_code_uses(database_url: str, tmp_path: Path) -> None:
    for _ in range(2):  # the second time there is nothing to do
        engine = open_database(database_url, tmp_path / "unused.db")
        with engine.connect() as connection:
            assert compare_metadata(MigrationContext.configure(connection), metadata) == []
        engine.dispose()


def test_sqlite_is_made_beside_the_data_and_lets_readers_in(tmp_path: Path) -> None:
    engine = open_database("", tmp_path / "a" / "homespun.db")
    with engine.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2
    engine.dispose()


def test_a_database_that_cannot_be_opened_is_one_line_without_the_password(tmp_path: Path) -> None:
    (tmp_path / "homespun.db").write_bytes(b"this is no database, whatever its name says" * 100)
    with pytest.raises(StorageError, match="homespun restore"):
        open_database("", tmp_path / "homespun.db")
    for url in ("nonsense", "cheese://ann:secret@host/name", "sqlite://ann:secret@host:port/name"):
        with pytest.raises(ConfigError, match="database_url") as caught:
            open_database(url, tmp_path / "x.db")
        assert "secret" not in str(caught.value)


def test_the_database_of_a_newer_version_is_refused_and_left_as_it_is(database_url: str, tmp_path: Path) -> None:
    engine = open_database(database_url, tmp_path / "unused.db")
    with engine.begin() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
        connection.exec_driver_sql("DROP TABLE jobs")  # it has others, which a migration of ours would make again
    with pytest.raises(StorageError, match="a newer Homespun has written this database") as caught:
        open_database(database_url, tmp_path / "unused.db")
    assert "\n" not in str(caught.value) and "homespun restore" in str(caught.value)
    with engine.connect() as connection:
        assert connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar() == "9999"
        assert "jobs" not in sa.inspect(connection).get_table_names()
    engine.dispose()


@pytest.mark.parametrize("garbage", [b"\0" * 4096, bytes(range(256)) * 16], ids=["zeros", "noise"])
def test_a_damaged_page_is_refused_at_the_start_with_the_way_back(tmp_path: Path, garbage: bytes) -> None:
    """Whichever page it is: the schema's and the migrations' own, or any other that is in use."""
    database = tmp_path / "homespun.db"
    filled(made := open_database("", database))
    made.dispose()
    whole, refused = database.read_bytes(), 0
    pages = range(0, len(whole), 4096 * 3)
    for start in (0, *pages[1:]):
        database.write_bytes(whole[:start] + garbage + whole[start + 4096 :])
        try:
            engine = open_database("", database)
        except StorageError as error:
            said = str(error)
        else:
            with pytest.raises(StorageError) as caught:
                refuse_damaged(engine)
            engine.dispose()
            said = str(caught.value)
        assert "damaged (" in said and "homespun restore" in said and "\n" not in said
        refused += 1
    assert refused == len(pages) > 10
