"""A data directory of an earlier version, and the way back to one: row 42."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import httpx
import pytest
from sqlalchemy import create_engine, text

from homespun_core import registry, storage
from homespun_core.paths import DataDir, repo_id
from homespun_indexer.snapshot import FORMAT
from tests.core.adapters import make_version
from tests.e2e.command import homespun
from tests.faults.machine import make_shop, one_line, serving
from tests.server.database.test_opening import filled, upgraded

pytestmark = [pytest.mark.faults, pytest.mark.e2e, pytest.mark.timeout(600)]


def test_a_data_directory_of_the_first_version_serves_and_that_of_a_later_one_is_refused(tmp_path: Path) -> None:
    """Every schema in between: tests/server/database/test_opening.py."""
    data, repo = DataDir(tmp_path / "data"), repo_id(str(make_shop(tmp_path)))
    new = storage.current(data.index(repo))
    assert new is not None
    _aged(new)
    champion = make_version(data.adapters(repo), "20250101-000000-f1nger", promote=True)
    (data.adapters(repo) / champion / registry.CARD).unlink()
    storage.set_current(data.adapters(repo), champion)
    old = upgraded(f"sqlite:///{data.database}", "0001")
    assert len(filled(old)["completions"]) == 1
    with old.begin() as connection:
        connection.execute(text("UPDATE completions SET time = :now"), {"now": time.time()})  # else it is swept
    old.dispose()

    with serving(tmp_path) as server:
        assert server.text
        state = httpx.get(f"{server.url}/readyz", timeout=30).json()
        assert any(f"format 1, this Homespun reads {FORMAT}" in problem for problem in state["problems"])
        assert homespun("index", "shop", "--data-dir=data", cwd=tmp_path).returncode == 0
        assert "champion" in homespun("adapters", "list", "--data-dir=data", cwd=tmp_path).stdout
    with serving(tmp_path) as server:
        assert server.ask().status_code == 200 and server.is_ready
    engine = create_engine(f"sqlite:///{data.database}")
    with engine.begin() as connection:
        kept = connection.exec_driver_sql("SELECT count(*) FROM completions WHERE id = 'x'").scalar()
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    engine.dispose()
    assert kept == 1
    content = data.database.read_bytes()
    assert "a newer Homespun has written this database" in one_line(
        homespun("serve", "--port=0", "--data-dir=data", cwd=tmp_path)
    )
    assert data.database.read_bytes() == content


def _aged(index: Path) -> None:
    """Of a format that isn't read any more, under a name of its own."""
    manifest = index / storage.MANIFEST
    manifest.write_text(manifest.read_text().replace(f'"format_version": {FORMAT}', '"format_version": 1'))
    old = shutil.move(index, index.with_name("0123456789abcdef"))
    storage.set_current(index.parent, Path(old).name)
