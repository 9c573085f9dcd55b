"""A real backend for the real keyring package, which keeps what it is given where KEYRING_FILE says."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import keyring
from keyring.backend import KeyringBackend
from keyring.errors import PasswordDeleteError


class Keyring(KeyringBackend):
    priority = 5

    def get_password(self, service: str, username: str) -> str | None:
        return self._all().get(f"{service} {username}")

    def set_password(self, service: str, username: str, password: str) -> None:
        self._place().write_text(json.dumps(self._all() | {f"{service} {username}": password}))

    def delete_password(self, service: str, username: str) -> None:
        kept = self._all()
        if kept.pop(f"{service} {username}", None) is None:
            raise PasswordDeleteError("not there")
        self._place().write_text(json.dumps(kept))

    def _all(self) -> dict[str, str]:
        kept: dict[str, str] = json.loads(self._place().read_text()) if self._place().exists() else {}
        return kept

    def _place(self) -> Path:
        return Path(os.environ["KEYRING_FILE"])


@contextmanager
def used(kind: type[KeyringBackend]) -> Iterator[None]:
    before = keyring.get_keyring()
    keyring.set_keyring(kind())
    try:
        yield
    finally:
        keyring.set_keyring(before)
