"""`homespun restore`: a data directory made of a backup, all of it or none.

Everything is unpacked and checked in `.restoring/` inside the new data directory (which may be a volume, so there is no
place beside it), then moved up, the database last. While that folder is there, no server opens the data directory, and
the same command begins anew.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
from dataclasses import asdict
from pathlib import Path

from homespun_core import storage
from homespun_core.config import ADAPTERS
from homespun_core.errors import ConfigError, StorageError
from homespun_core.loading import add_flags, settings_from_args
from homespun_core.paths import DataDir
from homespun_server.backup import archive, contents, databases
from homespun_server.backup.archive import Summary
from homespun_server.backup.backup import described
from homespun_server.backup.databases import Database
from homespun_server.database.opening import RESTORING

_MOVING = "moving"
_OF_VOLUMES = frozenset((RESTORING, "lost+found"))

_EPILOG = """\
  homespun restore /backups/homespun.tar.gz --data-dir /var/lib/homespun

The data directory (and the database, where `database_url` names one) must be empty. Clones and indexes come back by
themselves: `homespun up`, or the next job.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = _EPILOG
    parser.add_argument("file", type=Path, metavar="FILE", help="made by `homespun backup`")
    add_flags(parser, (ADAPTERS,))


def run(args: argparse.Namespace) -> int:
    settings = settings_from_args(args).settings
    data = DataDir(settings.data_root)
    restored = restore(args.file, data, databases.database_at(settings.database_url, data.database))
    print(f"{data.root}: {described(restored)}")
    if contents.SETTINGS_FILE in restored.files:
        print(f"the settings, without secrets, are in {data.root / contents.SETTINGS_FILE}")
    return 0


def restore(file: Path, data: DataDir, database: Database) -> Summary:
    """Raises StorageError, ConfigError; then nothing was restored."""
    summary = archive.read_summary(file)
    databases.refuse_unknown(summary.revision)
    other = contents.POSTGRESQL if database.name == contents.SQLITE else contents.SQLITE
    if other in summary.files:
        raise ConfigError(f"{file}: holds {other}, and database_url names another kind of database; set the one it had")
    workshop = data.root / RESTORING
    _refuse_used(data, database, workshop)
    with storage.locked(workshop / "lock", "`homespun restore`"):
        is_loaded = _is_loaded(database, workshop, summary)
        _forget_half(data, database, workshop)
        unpacked = _unpacked(file, workshop)
        storage.write_atomic(workshop / _MOVING, f"{_address(database)} {_identity(summary)}")
        _move_up(unpacked, data, database, is_loaded)
    storage.remove(workshop)  # by a rename: the moment at which it is done
    return summary


def _unpacked(file: Path, workshop: Path) -> Path:
    """Whole and on disk, or nothing of it."""
    folder = workshop / "data"
    folder.mkdir()
    try:
        archive.unpack(file, folder)
    except BaseException:
        storage.remove(workshop)
        raise
    for path in (*filter(Path.is_dir, folder.rglob("*")), folder):
        _sync(path)
    return folder


def _refuse_used(data: DataDir, database: Database, workshop: Path) -> None:
    if (workshop / _MOVING).exists():  # one that was killed while it moved: what is here is from it
        if (workshop / _MOVING).read_text(encoding="utf-8").split()[:1] != [_address(database)]:
            raise StorageError(
                f"{data.root}: a restore to another database was cut off; set database_url as it was then"
            )
        return
    there = [p.name for p in data.root.iterdir()] if data.root.is_dir() else []
    used = sorted(name for name in there if name not in _OF_VOLUMES and not name.startswith(storage.TMP_PREFIX))
    if used:
        raise StorageError(f"{data.root}: not empty ({used[0]}); restore to a new --data-dir, or move this one away")
    databases.refuse_used(database)


def _address(database: Database) -> str:
    """Stands for the database; no password goes into it, which may change."""
    return hashlib.sha256(str(database.url.set(password=None)).encode()).hexdigest()


def _identity(summary: Summary) -> str:
    return storage.fingerprint(asdict(summary))


def _is_loaded(database: Database, workshop: Path, summary: Summary) -> bool:
    """Whether an earlier restore was killed behind `pg_restore`, which loads all or nothing into what was empty. Raises
    StorageError when that was of another backup."""
    if database.path is not None or not (workshop / _MOVING).exists() or not databases.is_used(database):
        return False
    known = (workshop / _MOVING).read_text(encoding="utf-8").split()[1:]
    if known != [_identity(summary)] or databases.revision_of(database) != summary.revision:
        raise StorageError(
            "the database holds what a restore that was cut off loaded of another backup; run it with that one, or"
            " empty the database (DROP SCHEMA public CASCADE; CREATE SCHEMA public;) and run this again"
        )
    return True


def _forget_half(data: DataDir, database: Database, workshop: Path) -> None:
    shutil.rmtree(workshop / "data", ignore_errors=True)
    if not (workshop / _MOVING).exists():
        return
    for name in contents.NAMES:
        path = data.root / name
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    if database.path is not None:
        database.path.unlink(missing_ok=True)


def _move_up(unpacked: Path, data: DataDir, database: Database, is_loaded: bool) -> None:
    last = unpacked / database.name
    for path in sorted(unpacked.iterdir()):
        if path != last:
            path.rename(data.root / path.name)
    if not last.exists():
        return
    if database.path is not None:
        _place(last, database.path)
    elif not is_loaded:
        databases.load(database, last)
    _sync(data.root)


def _place(file: Path, target: Path) -> None:
    """`database_url` may name a file on another disk."""
    target.parent.mkdir(parents=True, exist_ok=True)
    tmp = target.with_name(f".tmp-{target.name}-{os.getpid()}")
    shutil.copyfile(file, tmp)
    tmp.chmod(0o600)
    _sync(tmp)
    tmp.replace(target)
    _sync(target.parent)


def _sync(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
