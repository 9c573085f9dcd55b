"""A data directory that is saved while it changes, and made again elsewhere, whatever happens meanwhile."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy.engine import make_url

from homespun_core import fences, personal, registry, storage
from homespun_core.cli import main
from homespun_core.errors import StorageError
from homespun_core.fences import Lease
from homespun_core.paths import DataDir
from homespun_core.personal import Wish
from homespun_server.access import reading
from homespun_server.access.audit import Actor
from homespun_server.access.changing import changing
from homespun_server.backup import archive, staging
from homespun_server.database.opening import RESTORING, open_database
from tests.core.adapters import make_version
from tests.postgres import Cluster

ADMIN = Actor(id="cli:test", origin="cli")
_DYING = """
import os, shutil, sys
from pathlib import Path
from homespun_core.cli import main
import homespun_server.backup.restore
at = calls = 0
def counted(call):
    def count(*args, **kwargs):
        global calls
        calls += 1
        if calls == at:
            os._exit(9)
        return call(*args, **kwargs)
    return count
for name in ("fsync", "rename", "replace", "mkdir", "rmdir", "unlink", "link"):
    setattr(os, name, counted(getattr(os, name)))
sys.stdin.readline()
ended = 9
while ended == 9:
    at, calls = at + 1, 0
    pid = os.fork()
    if pid == 0:
        try:
            os._exit(main([word.replace("{}", str(at)) for word in sys.argv[1:]]))
        finally:
            os._exit(77)
    ended = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
print(at, ended)
"""


@pytest.fixture
def data(tmp_path: Path) -> DataDir:
    data = DataDir(tmp_path / "data")
    for version in ("1", "2"):
        make_version(data.adapters("shop-1"), version)
        registry.promote(data.adapters("shop-1"), version)
    fences.raise_fence(data.adapters("shop-1"), Lease("train", 7))
    personal.want(data, Wish(user="u1", name="ada", authors=("00",), since=1.0))
    for name in ("locks/x", "cache/blobs", "logs/up.log", "repos/shop-1.git/HEAD", "index/shop-1/CURRENT", "salt"):
        (data.root / name).parent.mkdir(parents=True, exist_ok=True)
        (data.root / name).write_text("ab" * 16)
    add_user("", data, "ada")
    return data


def add_user(url: str, data: DataDir, name: str) -> None:
    engine = open_database(url, data.database)
    with changing(engine, ADMIN) as change:
        change.add_user(name, role="admin")
    engine.dispose()


def users(url: str, data: DataDir) -> list[str]:
    engine = open_database(url, data.database)
    with engine.connect() as connection:
        found = sorted(user.name for user in reading.all_users(connection))
    engine.dispose()
    return found


def said(words: str, capsys: pytest.CaptureFixture[str]) -> str:
    assert main(words.split()) == 1
    return capsys.readouterr().err


def test_accounts_adapters_and_names_come_back_and_nothing_of_the_old_machine(data: DataDir, tmp_path: Path) -> None:
    file, new = tmp_path / "b.tar.gz", DataDir(tmp_path / "new")
    assert main(["backup", str(file), "--data-dir", str(data.root)]) == 0
    assert main(["backup", "--check", str(file)]) == 0
    assert main(["restore", str(file), "--data-dir", str(new.root)]) == 0
    assert users("", new) == ["ada"]
    assert registry.aliases(new.adapters("shop-1")) == registry.aliases(data.adapters("shop-1"))
    live = registry.live(new.adapters("shop-1"))
    assert live is not None and live.version == "2"
    assert registry.history(new.adapters("shop-1")) == registry.history(data.adapters("shop-1"))
    assert personal.wishes(new) == personal.wishes(data)  # without them the next start would delete their adapters
    assert {path.name for path in new.root.iterdir()} == {"adapters", "homespun.db", "personal", "salt"}
    assert not (new.adapters("shop-1") / fences.FENCE).exists()
    assert new.database.stat().st_mode & 0o77 == 0


def test_a_folder_that_is_not_there_is_said_in_a_line(
    data: DataDir, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["backup", str(tmp_path / "gone" / "x.tar.gz"), "--data-dir", str(data.root)]) == 1
    assert f"there is no folder {tmp_path / 'gone'}" in capsys.readouterr().err


def test_indexes_come_along_where_that_is_asked_for(data: DataDir, tmp_path: Path) -> None:
    file, new = tmp_path / "b.tar.gz", DataDir(tmp_path / "new")
    assert main(["backup", str(file), "--with-indexes", "--data-dir", str(data.root)]) == 0
    assert main(["restore", str(file), "--data-dir", str(new.root)]) == 0
    assert (new.index("shop-1") / "CURRENT").is_file()


def test_nothing_that_is_there_is_overwritten(
    data: DataDir, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "b.tar.gz"
    assert main(["backup", str(file), "--data-dir", str(data.root)]) == 0
    add_user("", data, "bob")
    assert "not empty" in said(f"restore {file} --data-dir {data.root}", capsys)
    assert users("", data) == ["ada", "bob"]
    (tmp_path / "thesis.txt").write_text("years of work")
    assert "not a backup" in said(f"backup {tmp_path / 'thesis.txt'} --data-dir {data.root}", capsys)
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


def test_a_database_of_a_newer_homespun_is_refused_before_anything_is_written(
    data: DataDir, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with closing(sqlite3.connect(data.database)) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    file, new = tmp_path / "b.tar.gz", tmp_path / "new"
    assert main(["backup", str(file), "--data-dir", str(data.root)]) == 0
    assert "newer Homespun" in said(f"restore {file} --data-dir {new}", capsys)
    assert not new.exists()


def test_a_damaged_backup_restores_nothing(data: DataDir, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, new = tmp_path / "b.tar.gz", DataDir(tmp_path / "new")
    assert main(["backup", str(file), "--data-dir", str(data.root)]) == 0
    whole = file.read_bytes()
    file.write_bytes(whole[:-2_000])
    assert "damaged" in said(f"restore {file} --data-dir {new.root}", capsys)
    assert not list(new.root.iterdir())
    file.write_bytes(whole)
    assert main(["restore", str(file), "--data-dir", str(new.root)]) == 0


def test_a_damaged_database_is_not_backed_up_over_a_good_one(
    data: DataDir, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "b.tar.gz"
    assert main(["backup", str(file), "--data-dir", str(data.root)]) == 0
    before = file.read_bytes()
    pages = bytearray(data.database.read_bytes())
    for page in range(2, len(pages) // 4096):
        pages[page * 4096 : page * 4096 + 100] = b"\xff" * 100
    data.database.write_bytes(pages)
    assert "homespun.db" in said(f"backup {file} --data-dir {data.root}", capsys)
    assert file.read_bytes() == before


def test_names_and_versions_belong_together_while_they_change(data: DataDir, tmp_path: Path) -> None:
    """A version is published, put live and pruned again and again while it is copied."""
    adapters, ended = data.adapters("shop-1"), threading.Event()

    def train() -> None:
        number = 10
        while not ended.is_set():
            registry.promote(adapters, make_version(adapters, str(number)))
            registry.prune(adapters, keep=1)
            number += 1

    training = threading.Thread(target=train)
    training.start()
    try:
        for number in range(10):
            folder = tmp_path / str(number)
            folder.mkdir()
            staging.stage(data, folder, ("adapters",))
            copy = DataDir(folder).adapters("shop-1")
            live = registry.live(copy)
            assert live is not None and live.version == registry.aliases(copy).champion
    finally:
        ended.set()
        training.join()


def killed_at_every_call(*words: str) -> int:
    """In turn, at one call after the other by which something reaches the disk, until it isn't; how often that was."""
    done = subprocess.run(
        [sys.executable, "-c", _DYING, *words], input="\n", capture_output=True, text=True, check=True
    )
    times, ended = map(int, done.stdout.split()[-2:])
    assert ended == 0, done.stderr
    return times - 1


def test_a_backup_killed_at_any_call_leaves_the_earlier_one(data: DataDir, tmp_path: Path) -> None:
    file = tmp_path / "b.tar.gz"
    assert main(["backup", str(file), "--data-dir", str(data.root)]) == 0
    assert killed_at_every_call("backup", str(file), "--data-dir", str(data.root)) > 20
    archive.unpack(file, None)
    assert not [p for p in (*tmp_path.iterdir(), *data.root.iterdir()) if p.name.startswith(".")]


def test_a_restore_killed_at_any_call_has_restored_all_or_nothing_and_goes_on(data: DataDir, tmp_path: Path) -> None:
    file = tmp_path / "b.tar.gz"
    assert main(["backup", str(file), "--data-dir", str(data.root)]) == 0
    times = killed_at_every_call("restore", str(file), "--data-dir", str(tmp_path / "new-{}"))
    assert times > 20
    for number in range(1, times + 1):
        new = DataDir(tmp_path / f"new-{number}")
        if (new.root / ".restoring").exists():
            with pytest.raises(StorageError, match="cut off"):
                open_database("", new.database)
        if (new.root / ".restoring").exists() or not new.database.exists():
            assert main(["restore", str(file), "--data-dir", str(new.root)]) == 0
        assert users("", new) == ["ada"]
        live = registry.live(new.adapters("shop-1"))
        assert live is not None and live.version == "2"


def test_postgresql_is_saved_and_restored_into_an_empty_database_only(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if shutil.which("pg_dump") is None:
        monkeypatch.setenv("PATH", f"{cluster.binaries}:/usr/bin:/bin")
    old, new = cluster.new_database(), cluster.new_database()
    data, other = DataDir(tmp_path / "data"), DataDir(tmp_path / "other")
    data.root.mkdir()
    add_user(old, data, "ada")
    file = tmp_path / "b.tar.gz"
    monkeypatch.setenv("HOMESPUN_DATABASE_URL", old)
    assert main(["backup", str(file), "--data-dir", str(data.root)]) == 0
    assert "has tables already" in said(f"restore {file} --data-dir {other.root}", capsys)
    monkeypatch.setenv("HOMESPUN_DATABASE_URL", f"sqlite:///{tmp_path / 'x.db'}")
    assert "another kind" in said(f"restore {file} --data-dir {other.root}", capsys)
    monkeypatch.setenv("HOMESPUN_DATABASE_URL", new)
    assert main(["restore", str(file), "--data-dir", str(other.root)]) == 0
    assert users(new, other) == ["ada"]
    assert make_url(new).database not in (None, make_url(old).database)


def test_a_client_older_than_the_server_is_named_with_both_versions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What PostgreSQL 15's says to a server 17; an image has the client of its Debian."""
    program = tmp_path / "pg_dump"
    program.write_text(
        "#!/bin/sh\necho 'pg_dump: error: aborting because of server version mismatch' >&2\n"
        "echo 'pg_dump: detail: server version: 17.2; pg_dump version: 15.14' >&2\nexit 1\n"
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setenv("HOMESPUN_DATABASE_URL", "postgresql://u@localhost/d")
    refusal = said(f"backup {tmp_path / 'b.tar.gz'} --data-dir {tmp_path}", capsys)
    assert "older than the server (server version: 17.2; pg_dump version: 15.14); install the client" in refusal


def test_a_restore_killed_behind_pg_restore_goes_on(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What had been loaded made the next one fail, and the first check of an empty database was past."""
    if shutil.which("pg_dump") is None:
        monkeypatch.setenv("PATH", f"{cluster.binaries}:/usr/bin:/bin")
    old, new = cluster.new_database(), cluster.new_database()
    data, other = DataDir(tmp_path / "data"), DataDir(tmp_path / "other")
    data.root.mkdir()
    monkeypatch.setenv("HOMESPUN_DATABASE_URL", old)
    files = [tmp_path / "a.tar.gz", tmp_path / "b.tar.gz"]
    for file, name in zip(files, ("ada", "bob"), strict=True):
        add_user(old, data, name)
        assert main(["backup", str(file), "--data-dir", str(data.root)]) == 0
    monkeypatch.setenv("HOMESPUN_DATABASE_URL", new)

    def killed(path: Path) -> None:
        raise SystemExit(9)

    words = ["restore", str(files[0]), "--data-dir", str(other.root)]
    with monkeypatch.context() as patch, pytest.raises(SystemExit):
        patch.setattr(storage, "remove", killed)
        main(words)
    assert (other.root / RESTORING).is_dir()
    refusal = said(f"restore {files[1]} --data-dir {other.root}", capsys)
    assert "of another backup" in refusal and "DROP SCHEMA public CASCADE" in refusal
    assert main(words) == 0
    assert users(new, other) == ["ada"] and not (other.root / RESTORING).exists()


def test_a_restore_that_was_cut_off_does_not_go_on_over_another_database(
    data: DataDir, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file, new = tmp_path / "b.tar.gz", DataDir(tmp_path / "new")
    assert main(["backup", str(file), "--data-dir", str(data.root)]) == 0
    (new.root / RESTORING).mkdir(parents=True)
    (new.root / RESTORING / "moving").write_text("of another one")
    other = DataDir(tmp_path / "other")
    add_user("", other, "precious")
    monkeypatch.setenv("HOMESPUN_DATABASE_URL", f"sqlite:///{other.database}")
    assert "set database_url as it was then" in said(f"restore {file} --data-dir {new.root}", capsys)
    monkeypatch.delenv("HOMESPUN_DATABASE_URL")
    assert users("", other) == ["precious"]
