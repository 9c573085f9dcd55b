"""`homespun migrate`: the schema before any server starts, and no password on the way."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import create_engine, inspect

from homespun_core.cli import main


def test_it_makes_the_tables_and_says_so_twice(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HOMESPUN_DATABASE_URL", database_url)
    for _ in range(2):
        assert main(["migrate", "--data-dir", str(tmp_path)]) == 0
        assert "has the newest schema" in capsys.readouterr().out
    engine = create_engine(database_url)
    assert "jobs" in inspect(engine).get_table_names()
    engine.dispose()


def test_a_database_that_is_away_is_one_line_without_its_password(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HOMESPUN_DATABASE_URL", "postgresql+psycopg://ann:hidden@127.0.0.1:9/none")
    assert main(["migrate", "--data-dir", str(tmp_path)]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "can't be opened" in line and "hidden" not in line
