"""The newest entries of the audit log, noted outside of the database: in a file, in the server's log, and their number
for Prometheus. Whoever takes entries off the end of the log would have to change these as well."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Mapping
from pathlib import Path

from sqlalchemy import Engine

from homespun_core.errors import StorageError
from homespun_core.logs import with_fields
from homespun_core.paths import DataDir
from homespun_server.access import audit

logger = logging.getLogger(__name__)

EVERY_S = 10.0
"""So many of the newest entries could be cut unseen."""


def heads_file(data: DataDir) -> Path:
    return data.root / "audit.heads"


def read(file: Path) -> Mapping[int, str]:
    """Digests by the entry's number, from lines of JSON as `HeadKeeper` writes them, or as a log with `log_format =
    "json"` has them, among others. Nothing where there is no such file; raises StorageError where it can't be read."""
    try:
        lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise StorageError(f"{file}: can't be read ({error.strerror})") from error
    return dict(found for line in lines if (found := _head(line)) is not None)


class HeadKeeper:
    """`note` appends a line whenever there is a newer entry; a crash loses at most that line."""

    def __init__(self, engine: Engine, file: Path, gauge: Callable[[float], None]) -> None:
        self._engine, self._file, self._gauge = engine, file, gauge
        self._noted = max(read(file), default=0)

    def note(self) -> None:
        with self._engine.connect() as connection:
            newest = next(audit.entries(connection, newest=1), None)
        if newest is None:
            return
        self._gauge(newest.number)
        if newest.number == self._noted:
            return
        told = {"audit_entry": newest.number, "audit_digest": newest.digest}
        _append(self._file, json.dumps(told | {"time_ms": newest.time_ms}) + "\n")
        logger.info("audit head %d %s", newest.number, newest.digest, extra=with_fields(**told))
        self._noted = newest.number


def _head(line: str) -> tuple[int, str] | None:
    try:
        told = json.loads(line)
        number, digest = told["audit_entry"], told["audit_digest"]
    except (ValueError, KeyError, TypeError):
        return None
    return (number, digest) if isinstance(number, int) and isinstance(digest, str) else None


def _append(file: Path, line: str) -> None:
    """A half line that a crash left stays one of its own."""
    with file.open("a+b") as handle:
        handle.seek(0, os.SEEK_END)
        if handle.tell():
            handle.seek(-1, os.SEEK_END)
            if handle.read(1) != b"\n":
                handle.write(b"\n")
        handle.write(line.encode())
        handle.flush()
        os.fsync(handle.fileno())
    file.chmod(0o600)
