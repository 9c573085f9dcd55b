"""Tokens of servers, kept between sessions: in the system's keyring where there is one, else in a file.

One small file for each server says where its token is, so that a running editor notices a sign-in by looking at a date.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from urllib.parse import urlsplit

from homespun_core.storage import write_atomic
from homespun_lsp.user import state_dir

_FORMAT = 1
_SERVICE = "homespun"
KEYRING, FILE = "keyring", "file"


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    token: str = field(repr=False)
    place: str
    """KEYRING or the file's name."""


def find(url: str) -> Kept | None:
    """None where none is kept, or what is kept can't be read."""
    try:
        path = _path(url)
        record = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RuntimeError):  # the last: there is no home at all
        return None
    match record:
        case {"format": 1, "server": str(server), "token": str(token)} if server == _name(url):
            return Kept(token=token, place=str(path))
        case {"format": 1, "server": str(server), "in": "keyring"} if server == _name(url):
            return _in_keyring(server)
    return None


def stamp(url: str) -> tuple[int, int] | None:
    """Changes when a token is kept or forgotten."""
    try:
        found = _path(url).stat()
        return found.st_mtime_ns, found.st_ino  # both: a clock may tick slower than somebody keeps tokens
    except (OSError, RuntimeError):
        return None


def keep(url: str, token: str) -> str:
    """Where it was put. Raises OSError where nothing can be written."""
    name, path = _name(url), _path(url)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.parent.chmod(0o700)  # before there is a token in it, for however short a time with the usual permissions
    if _keep_in_keyring(name, token):
        write_atomic(path, json.dumps({"format": _FORMAT, "server": name, "in": KEYRING}) + "\n")
        return KEYRING
    write_atomic(path, json.dumps({"format": _FORMAT, "server": name, "token": token}) + "\n")
    path.chmod(0o600)
    return str(path)


def forget(url: str) -> None:
    kept = find(url)
    if kept is not None and kept.place == KEYRING:
        _forget_in_keyring(_name(url))
    _path(url).unlink(missing_ok=True)


def _path(url: str) -> Path:
    name = _name(url)
    readable = re.sub(r"[^a-z0-9.-]+", "-", name.partition("://")[2]).strip("-.")[:60]
    return state_dir() / "tokens" / f"{readable}-{hashlib.sha256(name.encode()).hexdigest()[:12]}.json"


def _name(url: str) -> str:
    """One for all spellings of an address."""
    parts = urlsplit(url)
    port = parts.port or {"http": 80, "https": 443}.get(parts.scheme)
    return f"{parts.scheme}://{(parts.hostname or '').lower()}:{port}{parts.path.rstrip('/')}"


def _keyring() -> ModuleType | None:
    """Only what keyring itself recommends: on a machine without a desktop it has a backend that always fails."""
    try:
        import keyring

        return keyring if keyring.get_keyring().priority >= 1 else None
    except Exception:  # noqa: BLE001  # not installed, or any of a dozen systems' complaints: then it is a file
        return None


def _in_keyring(name: str) -> Kept | None:
    keyring = _keyring()
    try:
        token = keyring.get_password(_SERVICE, name) if keyring else None
    except Exception:  # noqa: BLE001  # locked, or gone
        return None
    return Kept(token=token, place=KEYRING) if isinstance(token, str) else None


def _keep_in_keyring(name: str, token: str) -> bool:
    keyring = _keyring()
    try:
        if keyring is not None:
            keyring.set_password(_SERVICE, name, token)
        return keyring is not None
    except Exception:  # noqa: BLE001  # locked, or refused by the user: then it is a file
        return False


def _forget_in_keyring(name: str) -> None:
    keyring = _keyring()
    try:
        if keyring is not None:
            keyring.delete_password(_SERVICE, name)
    except Exception:  # noqa: BLE001  # locked, or gone already; the server has revoked it
        return
