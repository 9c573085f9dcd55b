"""The database's disk is full, and with it the audit log's (row 48 of the fault matrix)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Engine, event

from homespun_core.errors import StorageError
from homespun_server.access import audit, reading
from homespun_server.access.changing import changing
from tests.server.access.conftest import ADMIN, Served


@contextmanager
def full(engine: Engine) -> Iterator[None]:
    """SQLite may not grow by a page: what a full disk does to it, of the database alone."""

    def limit(connection: object, *_: object) -> None:
        cursor = connection.cursor()  # type: ignore[attr-defined]  # of the driver
        pages = cursor.execute("PRAGMA page_count").fetchone()[0]
        cursor.execute(f"PRAGMA max_page_count={pages}")
        cursor.close()

    event.listen(engine, "checkout", limit)
    try:
        yield
    finally:
        event.remove(engine, "checkout", limit)
        engine.dispose()


async def test_with_a_full_audit_log_nobodys_rights_change_and_completions_go_on(served: Served) -> None:
    admin = served.token("root", "admin", scopes=["admin", "complete"])
    database = served.runtime.database
    with full(database):
        refused = 0
        for number in range(400):  # until the last page is full
            try:
                with changing(database, ADMIN) as change:
                    change.add_team(f"team {number} {'x' * 90}")
            except StorageError as error:
                assert "nothing was changed" in str(error)
                refused += 1
                break
        assert refused == 1
        answer = await served.ask("POST", "/v1/homespun/admin/teams", admin, json={"name": "y" * 120})
        assert answer.status_code == 503
        completed = await served.ask("POST", "/v1/completions", admin, json={"prompt": "x = "})
        assert completed.status_code == 200
    with database.connect() as connection:
        teams, found = reading.all_teams(connection), audit.verify(connection)
        told = [entry.object for entry in audit.entries(connection) if entry.action == "team.add"]
    assert found.problem is None and sorted(told) == sorted(f"team:{team.name}" for team in teams)
    again = await served.ask("POST", "/v1/homespun/admin/teams", admin, json={"name": "there again"})
    assert again.status_code == 201
