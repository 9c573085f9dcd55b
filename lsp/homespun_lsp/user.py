"""Who asks: a random id, made once and kept, that says nothing about the person."""

from __future__ import annotations

import os
import re
from functools import cache
from pathlib import Path
from uuid import uuid4

from homespun_core.storage import write_atomic

_ID = re.compile(r"[0-9a-f]{32}")


@cache
def user_id() -> str | None:
    """None where it can't be kept, as in a read-only home: an id that changed with every start would be many users."""
    try:
        path = state_dir() / "user"
        return _read(path) or _make(path)
    except (OSError, RuntimeError):  # the latter: there is no home at all
        return None


def state_dir() -> Path:
    base = Path(os.environ.get("XDG_STATE_HOME", ""))
    return (base if base.is_absolute() else Path.home() / ".local" / "state") / "homespun"


def _read(path: Path) -> str | None:
    """Nothing else than what we wrote: a name that somebody put there isn't sent."""
    try:
        found = _ID.fullmatch(path.read_text("utf-8").strip())
    except (FileNotFoundError, UnicodeDecodeError):
        return None
    return found[0] if found else None


def _make(path: Path) -> str | None:
    """Read again after writing: when two editors start at once, both use the id that stays."""
    write_atomic(path, uuid4().hex + "\n")
    return _read(path)
