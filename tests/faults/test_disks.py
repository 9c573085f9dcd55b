"""Disks that are full, failing or read-only, and a database that one of them damaged: rows 7, 8, 10, 12 and 17."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from homespun_core import storage
from homespun_core.paths import DataDir, repo_id
from tests.e2e.command import HOMESPUN, homespun
from tests.faults.machine import (
    Server,
    failing,
    failing_within,
    fill,
    make_shop,
    on_a_small_disk,
    one_line,
    seen_by,
    serving,
)
from tests.repos import commit

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("disks")
    make_shop(root)
    return root


@pytest.fixture(scope="module")
def server(root: Path) -> Iterator[Server]:
    """With its data on a disk of 20 MB."""
    with serving(root, data="disk/data", prefix=on_a_small_disk(root, 20)) as server:
        yield server


def on_its_disk(server: Server, root: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [*HOMESPUN, *words, "--data-dir=disk/data"]
    inside = [
        word for word in server.inside("sh", "-c", 'cd "$0" && exec "$@"', str(root), *command) if word != "--net"
    ]
    return subprocess.run(inside, capture_output=True, text=True, check=False, timeout=100)


def test_a_full_disk_costs_writes_and_no_completions_and_is_over_with_the_space(server: Server, root: Path) -> None:
    """Rows 7 and 8: what can't be indexed or written is said in one line, what is there goes on serving."""
    expected = server.text
    disk = seen_by(server, root / "disk")
    parent = DataDir(disk / "data").index(repo_id(str(root / "shop")))
    before = storage.current(parent)
    fill(disk / "filler")
    commit(root / "shop", {"shop/new.py": "".join(f"value_{n} = compute_{n}()\n" for n in range(9_000))})
    assert "disk is full" in one_line(on_its_disk(server, root, "index", "shop"))
    assert storage.current(parent) == before
    assert "full" in one_line(on_its_disk(server, root, "user", "add", "ada"))
    created = httpx.post(f"{server.url}/v1/homespun/admin/users", json={"name": "ada"}, timeout=30)
    assert created.status_code in (503, 507), created.text
    assert server.text == expected and server.is_ready
    (disk / "filler").unlink()
    assert on_its_disk(server, root, "index", "shop").returncode == 0
    assert on_its_disk(server, root, "user", "list").returncode == 0
    assert storage.current(parent) != before
    assert server.ask().status_code == 200 and server.is_ready


def test_a_failed_fsync_is_a_failed_run_and_the_old_index_stays(tmp_path: Path) -> None:
    """Row 10: what the disk didn't confirm isn't published. All of them fail, since one alone may be a cache's, which
    is done without; tests/indexer/test_interrupted.py fails each alone."""
    shop = make_shop(tmp_path)
    parent = DataDir(tmp_path / "data").index(repo_id(str(shop)))
    before = storage.current(parent)
    commit(shop, {"shop/new.py": "new_value = 1\n"})
    failed = homespun("index", "shop", "--data-dir=data", cwd=tmp_path, prefix=failing("fsync", "error=EIO", "1+"))
    assert "the disk failed" in one_line(failed)
    assert storage.current(parent) == before and not list(parent.glob(".tmp-*"))
    assert homespun("index", "shop", "--data-dir=data", cwd=tmp_path).returncode == 0
    assert storage.current(parent) != before


def test_a_disk_that_becomes_read_only_under_a_server_costs_writes_and_no_completions(
    server: Server, root: Path
) -> None:
    """Row 12, as ext4 does it after an error: files that are open for writing stay open, and take nothing."""
    expected = server.text
    with failing_within(server.pid, "pwrite64,ftruncate,fsync,fdatasync", "error=EROFS"):
        created = httpx.post(f"{server.url}/v1/homespun/admin/users", json={"name": "eve"}, timeout=30)
        assert created.status_code in (503, 507), created.text
        assert server.text == expected and server.is_ready
    assert httpx.post(f"{server.url}/v1/homespun/admin/teams", json={"name": "t"}, timeout=30).status_code == 201
    assert server.text == expected


@pytest.mark.faults
@pytest.mark.timeout(600)
def test_what_lies_on_a_read_only_disk_is_served_where_the_database_is_elsewhere(
    server: Server, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Row 12 from the start; what wants to write there says why it can't."""
    read_only = on_a_small_disk(root, 20, is_read_only=True)
    for words in (("index", "shop"), ("user", "add", "ada")):
        refused = one_line(homespun(*words, "--data-dir=disk/data", cwd=root, prefix=read_only))
        assert "is read-only" in refused or "can't be written to; where it is to be served" in refused
    monkeypatch.setenv("HOMESPUN_DATABASE_URL", f"sqlite:///{root / 'elsewhere.db'}")
    with serving(root, data="disk/data", prefix=read_only) as reader:
        assert reader.text == server.text and reader.is_ready
        assert sum("the file system is read-only" in line for line in reader.running.lines) == 2


def test_a_server_does_not_start_on_a_damaged_database_and_says_how_to_get_it_back(root: Path, tmp_path: Path) -> None:
    """Row 17, as the command; every third page is tried in tests/server/database/test_opening.py."""
    assert homespun("user", "list", "--data-dir=data", cwd=tmp_path).returncode == 0
    database = tmp_path / "data" / "homespun.db"
    whole = database.read_bytes()
    database.write_bytes(whole[: 4096 * 9] + b"\xa5" * 4096 + whole[4096 * 10 :])
    said = one_line(homespun("serve", "--port=0", "--data-dir=data", cwd=tmp_path))
    assert "the database is damaged (" in said and "restore a backup to a new --data-dir (homespun restore)" in said
    assert database.read_bytes() == whole[: 4096 * 9] + b"\xa5" * 4096 + whole[4096 * 10 :]
