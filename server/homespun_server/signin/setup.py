"""The first admin, made in a browser by whoever can read what this server prints at its start."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from pathlib import Path

from sqlalchemy import Engine

from homespun_core import storage
from homespun_core.config import Settings
from homespun_core.errors import ConfigError
from homespun_core.paths import DataDir
from homespun_server.access import reading
from homespun_server.access.audit import Actor
from homespun_server.access.changing import changing
from homespun_server.access.principal import ALL_SCOPES
from homespun_server.access.records import User
from homespun_server.access.tokens import Token

CODE_FILE = "setup.code"
"""In the data directory, for whoever can't see what the server printed."""
LASTS_S = 3_600.0
_TOKEN_DAYS = 90
_ALPHABET = "BCDFGHJKLMNPQRSTVWXZ"
_LETTERS = 20
"""86 random bits."""


class SetUp:
    """Open until the first admin is made, and an hour at most. The code is this process's own and counts once."""

    def __init__(self, engine: Engine, file: Path, clock: Callable[[], float] = time.monotonic) -> None:
        """Writes the code to `file`, which only this account can read."""
        self.code = "".join(secrets.choice(_ALPHABET) for _ in range(_LETTERS))
        self._engine, self._file, self._clock = engine, file, clock
        self._ends, self._is_used = clock() + LASTS_S, False
        storage.write_atomic(file, f"{self.shown}\n")
        file.chmod(0o600)

    @property
    def shown(self) -> str:
        return "-".join(self.code[at : at + 5] for at in range(0, _LETTERS, 5))

    @property
    def is_open(self) -> bool:
        """Asks the database: another server, the command line or the identity provider may have made an admin."""
        if self._is_used or self._clock() >= self._ends:
            return False
        with self._engine.connect() as connection:
            if reading.num_active_admins(connection):
                self.close()
        return not self._is_used

    def close(self) -> None:
        self._is_used = True
        self._file.unlink(missing_ok=True)

    def is_code(self, text: str) -> bool:
        letters = "".join(letter for letter in text.upper() if letter.isalnum())
        return self.is_open and secrets.compare_digest(letters.encode("utf-8", "replace"), self.code.encode())

    def first_admin(self, name: str, email: str | None, origin: str) -> tuple[User, Token]:
        """Raises ConfigError for what is no name, and where somebody was faster; StorageError."""
        with changing(self._engine, Actor(id="setup", origin=origin)) as change:
            if reading.num_active_admins(change.connection):
                raise ConfigError("there is an admin already; sign in, or have them make you an account")
            user = change.add_user(name, role="admin", email=email)
            expires = time.time() + _TOKEN_DAYS * 86_400
            token = change.add_token(user, "first sign-in", scopes=ALL_SCOPES, expires=expires)
        self.close()
        return user, token


def setup_for(settings: Settings, engine: Engine) -> SetUp | None:
    """None where it isn't wanted, or where there is an admin."""
    if not settings.setup:
        return None
    with engine.connect() as connection:
        if reading.num_active_admins(connection):
            return None
    return SetUp(engine, DataDir(settings.data_root).root / CODE_FILE)
