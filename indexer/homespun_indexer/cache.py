"""Values by content key, shared by repositories, branches, forks and processes.

SQLite in WAL mode: readers and one writer at a time, from any number of processes; kill -9 loses at most what wasn't
committed. It is worth nothing that can't be computed again, so a damaged one is deleted, and one that is locked for
long, on a full disk or can't be opened is done without.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Mapping, Sequence
from pathlib import Path

logger = logging.getLogger(__name__)

_MAX_BYTES = 4_000_000_000
"""A larger cache is started anew: simpler than tracking what is still used, and rebuilding takes seconds."""
_LOCK_S = 5
"""Short: every refresh waits for it while another process keeps the cache locked."""


class BlobCache:
    """A context manager; for one thread."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._database: sqlite3.Connection | None = None
        """None: gone on without it."""

    def __enter__(self) -> BlobCache:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            if self._path.is_file() and self._path.stat().st_size > _MAX_BYTES:
                self._delete()
            self._database = self._open()
        except OSError as error:
            self._go_without(error)
        except sqlite3.Error as error:
            self._recover(error)
        return self

    def __exit__(self, *exc: object) -> None:
        self._close()

    def get(self, keys: Sequence[str]) -> dict[str, bytes]:
        if self._database is None:
            return {}
        marks = ",".join("?" * len(keys))
        try:
            rows = self._database.execute(f"SELECT key, value FROM analyses WHERE key IN ({marks})", keys).fetchall()
            return dict(rows)
        except sqlite3.Error as error:
            self._recover(error)
            return {}

    def put(self, values: Mapping[str, bytes]) -> None:
        if self._database is None:
            return
        try:
            with self._database:
                self._database.executemany("INSERT OR REPLACE INTO analyses VALUES (?, ?)", values.items())
        except sqlite3.Error as error:
            self._recover(error)

    def _open(self) -> sqlite3.Connection:
        database = sqlite3.connect(self._path, timeout=_LOCK_S)
        try:
            database.execute("PRAGMA journal_mode=WAL")
            database.execute("PRAGMA synchronous=OFF")  # a power cut may cost the cache, never correctness
            database.execute("CREATE TABLE IF NOT EXISTS analyses (key TEXT PRIMARY KEY, value BLOB) WITHOUT ROWID")
        except sqlite3.Error:
            database.close()
            raise
        return database

    def _recover(self, error: Exception) -> None:
        self._close()
        # Another process is writing for long, or the disk is full (then the snapshot will say so): that's no damage.
        if isinstance(error, sqlite3.OperationalError) and ("locked" in str(error) or "full" in str(error)):
            self._go_without(error)
            return
        try:
            self._delete()
            self._database = self._open()
        except (OSError, sqlite3.Error) as again:
            self._go_without(again)
        else:
            logger.warning("cache %s is damaged (%s) and is rebuilt", self._path, error)

    def _go_without(self, error: Exception) -> None:
        logger.warning("cache %s: %s; going on without it", self._path, error)

    def _close(self) -> None:
        if self._database is not None:
            self._database.close()
            self._database = None

    def _delete(self) -> None:
        for suffix in ("", "-wal", "-shm"):
            self._path.with_name(self._path.name + suffix).unlink(missing_ok=True)
