"""The log: a chain that can only grow."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest
from sqlalchemy import Engine, delete, insert, select, text, update
from sqlalchemy.exc import DatabaseError

from homespun_server.access import audit, heads
from homespun_server.access.audit import Actor
from homespun_server.access.changing import changing
from homespun_server.access.tables import audit as table
from homespun_server.database.opening import open_database
from tests.server.access.conftest import ADMIN

_SECOND = table.c.number == 2


def _note(engine: Engine, number: int = 1) -> None:
    with engine.begin() as connection:
        for n in range(number):
            audit.append(connection, ADMIN, "test", f"thing:{n}", details={"number": n})


def _verified(engine: Engine, noted: str | None = None) -> audit.Verified:
    with engine.connect() as connection:
        return audit.verify(connection, noted)


def _rid_of_triggers(engine: Engine) -> None:
    """As somebody would who may do everything with the database."""
    with engine.begin() as connection:
        if engine.dialect.name == "postgresql":
            connection.execute(text("DROP TRIGGER audit_append_only ON audit"))
            return
        for name in ("audit_no_update", "audit_no_delete"):
            connection.execute(text(f"DROP TRIGGER {name}"))


def test_entries_are_counted_and_chained(engine: Engine) -> None:
    _note(engine, 1_100)
    found = _verified(engine)
    assert found.entries == 1_100 and found.problem is None
    with engine.connect() as connection:
        last = list(audit.entries(connection, newest=2))
    assert [entry.number for entry in last] == [1_099, 1_100] and last[1].previous == last[0].digest == last[1].previous
    assert last[1].digest == found.head and last[1].as_json()["details"] == {"number": 1_099}


@pytest.mark.parametrize(
    "change", [update(table).values(actor="nobody"), delete(table), delete(table).where(table.c.number == 2)]
)
def test_the_database_refuses_to_change_or_delete_an_entry(engine: Engine, change: object) -> None:
    _note(engine, 3)
    with pytest.raises(DatabaseError, match="append-only"), engine.begin() as connection:
        connection.execute(change)  # type: ignore[call-overload]
    assert _verified(engine).entries == 3


@pytest.mark.parametrize(
    ("tampering", "problem"),
    [
        (update(table).where(_SECOND).values(actor="nobody"), "entry 2 was changed"),
        (update(table).where(_SECOND).values(details="{}"), "entry 2 was changed"),
        (update(table).where(_SECOND).values(digest="0" * 64), "entry 2 was changed"),
        (delete(table).where(_SECOND), "entry 2 is missing"),
        (delete(table).where(table.c.number == 1), "entry 1 is missing"),
    ],
)
def test_what_was_changed_in_spite_of_that_is_found(engine: Engine, tampering: object, problem: str) -> None:
    _note(engine, 3)
    _rid_of_triggers(engine)
    with engine.begin() as connection:
        connection.execute(tampering)  # type: ignore[call-overload]
    found = _verified(engine)
    assert found.problem is not None and problem in found.problem


def test_a_forged_entry_in_between_is_found(engine: Engine) -> None:
    _note(engine, 3)
    _rid_of_triggers(engine)
    with engine.begin() as connection:
        row = connection.execute(select(table).where(table.c.number == 3)).one()._asdict()
        connection.execute(delete(table).where(table.c.number == 3))
        forged = row | {"previous": "0" * 64}
        connection.execute(insert(table).values(forged | {"digest": audit.digest_of(forged)}))
    assert "entry 3 is missing or replaced" in str(_verified(engine).problem)


def test_what_is_taken_off_the_end_is_told_by_a_noted_digest(engine: Engine) -> None:
    _note(engine, 3)
    head = _verified(engine).head
    _note(engine)
    assert _verified(engine, head).has_noted
    _rid_of_triggers(engine)
    with engine.begin() as connection:
        connection.execute(delete(table).where(table.c.number >= 3))
    found = _verified(engine, head)
    assert found.problem is None and not found.has_noted


def _noted(engine: Engine, file: Path) -> audit.Verified:
    with engine.connect() as connection:
        return audit.verify(connection, heads=heads.read(file))


def test_what_is_taken_off_the_end_is_told_by_what_the_server_noted(engine: Engine, tmp_path: Path) -> None:
    file, told = tmp_path / "audit.heads", list[float]()
    keeper = heads.HeadKeeper(engine, file, told.append)
    keeper.note()
    assert not file.exists()
    _note(engine, 5)
    keeper.note()
    keeper.note()
    _note(engine, 2)
    heads.HeadKeeper(engine, file, told.append).note()
    assert list(heads.read(file)) == [5, 7] and told == [5, 5, 7] and file.stat().st_mode & 0o077 == 0
    assert _noted(engine, file).problem is None
    _rid_of_triggers(engine)
    with engine.begin() as connection:
        connection.execute(delete(table).where(table.c.number >= 6))
    found = _noted(engine, file)
    assert found.entries == 5 and "entries 6 to 7 were taken off the end" in str(found.problem)
    _note(engine, 2)
    assert "entry 7 is another" in str(_noted(engine, file).problem)


def test_heads_are_read_from_a_log_with_other_lines_in_it(tmp_path: Path) -> None:
    log = tmp_path / "server.log"
    mine = {"message": "audit head", "audit_entry": 3, "audit_digest": "ab"}
    log.write_text(f'text\n{{"half\n[1]\n{{"audit_entry": "x", "audit_digest": 1}}\n{json.dumps(mine)}\n')
    assert heads.read(log) == {3: "ab"}


def test_a_half_line_that_a_crash_left_hides_no_later_one(engine: Engine, tmp_path: Path) -> None:
    file = tmp_path / "audit.heads"
    file.write_text('{"audit_entry": 1')
    _note(engine)
    heads.HeadKeeper(engine, file, lambda number: None).note()
    assert list(heads.read(file)) == [1]


def test_many_at_once_make_one_chain(engine: Engine, tmp_path: Path) -> None:
    """Each thread with a connection pool of its own, as another process would have."""

    def work(own: Engine, name: str) -> None:
        for number in range(10):
            with changing(own, Actor(id=name, origin="test")) as change:
                change.add_team(f"{name}-{number}")

    url = engine.url.render_as_string(hide_password=False)
    pools = {name: open_database(url, tmp_path) for name in ("a", "b", "c")}
    threads = [threading.Thread(target=work, args=[own, name]) for name, own in pools.items()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for own in pools.values():
        own.dispose()
    found = _verified(engine)
    assert found.entries == 30 and found.problem is None


def test_a_change_that_fails_leaves_no_entry(engine: Engine) -> None:
    with pytest.raises(RuntimeError), changing(engine, ADMIN) as change:
        change.add_team("shop")
        raise RuntimeError
    assert _verified(engine).entries == 0
