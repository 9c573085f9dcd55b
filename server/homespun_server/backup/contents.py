"""What a backup holds. Pure.

Left out is what is made again by itself (clones, caches, corpora, indexes unless asked for), what belongs to one
process or machine (locks, fences, logs, the server's address, the workers' token), and every secret of the settings.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

from homespun_core.fences import FENCE
from homespun_core.paths import hide_credentials

FOLDERS = ("adapters", "filters", "retraining", "nudges", "evaluations", "personal")
INDEXES = "index"
FILES = ("forgotten.json", "salt")
SETTINGS_FILE = "homespun.toml"
SQLITE, POSTGRESQL = "homespun.db", "postgresql.dump"
NAMES = frozenset((*FOLDERS, INDEXES, *FILES, SETTINGS_FILE, SQLITE, POSTGRESQL))
"""All that stands at the top of a backup."""

_SECRET = re.compile(r"(?:.*_)?(?:token|secret|password|key)|database_url")
_KEY = re.compile(r"[\s#]*([A-Za-z0-9_-]+)\s*=")
_TABLE = re.compile(r"\s*\[+\s*([A-Za-z0-9_-]+)")


def belongs(name: str) -> bool:
    """Whether a file or folder of that name goes into a backup, wherever it lies."""
    return not name.startswith(".") and name != FENCE


def is_safe(name: str) -> bool:
    """Whether a name from an archive stays below the folder it is unpacked to, and is one that we would write."""
    path = PurePosixPath(name)
    parts = name.split("/")
    return (
        "\0" not in name
        and "\\" not in name
        and not path.is_absolute()
        and all(part not in ("", ".", "..") for part in parts)
        and parts[0] in NAMES
    )


def without_secrets(toml: str) -> str | None:
    """A settings file with its secrets commented out; None where that can't be done for certain."""
    table = ""
    lines: list[str] = []
    for line in toml.splitlines():
        found = _TABLE.match(line)
        table = found[1] if found else table
        key = _KEY.match(line)
        is_secret = key is not None and _is_secret(key[1], table)
        lines.append(f"# {key[1]}: a secret, not in the backup" if key and is_secret else hide_credentials(line))
    text = "\n".join(lines) + "\n"
    try:
        return None if _holds_secrets(tomllib.loads(text)) else text
    except tomllib.TOMLDecodeError:
        return None


def _is_secret(key: str, table: str) -> bool:
    """Where notices go is often all it takes to send some."""
    return _SECRET.fullmatch(key) is not None or (table == "notify" and key == "url")


def _holds_secrets(values: Mapping[str, Any], table: str = "") -> bool:
    for key, value in values.items():
        rows: Sequence[Any] = value if isinstance(value, list) else [value]
        if _is_secret(key, table) or any(isinstance(row, dict) and _holds_secrets(row, key) for row in rows):
            return True
    return False
