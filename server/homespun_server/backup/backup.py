"""`homespun backup`: everything that can't be made again in one file, while the server runs."""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

from homespun_core import storage
from homespun_core.config import ADAPTERS
from homespun_core.errors import StorageError
from homespun_core.loading import CONFIG_NAME, add_flags, settings_from_args
from homespun_core.paths import DataDir
from homespun_server.backup import archive, contents, databases
from homespun_server.backup.archive import Summary
from homespun_server.backup.databases import Database
from homespun_server.backup.staging import stage

_STAGE = ".backup"

_EPILOG = """\
  homespun backup /backups/homespun.tar.gz            while the server runs
  homespun backup --check /backups/homespun.tar.gz    is it whole?
  homespun restore /backups/homespun.tar.gz --data-dir /var/lib/new

Accounts, jobs, adapters, filters and what retraining remembers are in it, not the clones and caches, which are made
again, and no secrets of the settings. An existing backup of that name is replaced once the new one is whole.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = _EPILOG
    parser.add_argument("file", type=Path, metavar="FILE", help="the backup: a .tar.gz")
    parser.add_argument("--check", action="store_true", help="read an existing backup and compare every checksum")
    parser.add_argument(
        "--with-indexes", action="store_true", help="also what `homespun index` would make again, to start in seconds"
    )
    add_flags(parser, (ADAPTERS,))


def run(args: argparse.Namespace) -> int:
    file: Path = args.file
    if args.check:
        print(f"{file}: whole, {described(archive.unpack(file, None))}")
        return 0
    settings = settings_from_args(args).settings
    data = DataDir(settings.data_root)
    database = databases.database_at(settings.database_url, data.database)
    folders = (*contents.FOLDERS, *((contents.INDEXES,) if args.with_indexes else ()))
    made = save(file, data, database, folders, args.config or Path(CONFIG_NAME))
    print(f"{file}: {file.stat().st_size:,} bytes, {described(made)}")
    return 0


def save(file: Path, data: DataDir, database: Database, folders: tuple[str, ...], settings_file: Path) -> Summary:
    """Files first: the database, which knows the numbers of all leases, must not be the older of the two."""
    if not data.root.is_dir():
        raise StorageError(f"{data.root}: no data directory; see --data-dir")
    if not file.absolute().parent.is_dir():
        raise StorageError(f"{file}: there is no folder {file.absolute().parent}; make it")
    if file.exists():
        archive.read_summary(file)  # anything else of that name is not ours to replace
    with storage.locked(data.locks / "backup", "`homespun backup`"):
        folder = data.root / _STAGE
        shutil.rmtree(folder, ignore_errors=True)  # what a killed one left
        folder.mkdir()
        try:
            stage(data, folder, folders)
            _settings(settings_file, folder)
            revision = databases.save(database, folder)
            return archive.pack(folder, file, revision)
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def described(summary: Summary) -> str:
    versions = sum(name.startswith("adapters/") and name.endswith("/manifest.json") for name in summary.files)
    schema = f"database of schema {summary.revision}" if summary.revision else "no database"
    return (
        f"{len(summary.files):,} files of {summary.size:,} bytes from {summary.created} by Homespun {summary.homespun}:"
        f" {schema}, {versions} adapter versions"
    )


def _settings(file: Path, folder: Path) -> None:
    if not file.is_file():
        return
    text = contents.without_secrets(file.read_text(encoding="utf-8"))
    if text is None:
        print(f"{file}: left out, since its secrets can't be told apart; keep a copy of it yourself")
    else:
        (folder / contents.SETTINGS_FILE).write_text(text, encoding="utf-8")
