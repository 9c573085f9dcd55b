"""Forges that are asked who may read what (`[[forge]]` tables)."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Literal, get_args
from urllib.parse import urlsplit

from homespun_core.errors import ConfigError
from homespun_core.repositories import nearest

FORGE_TABLE = "forge"
ForgeKind = Literal["github", "gitlab", "gitea", "forgejo"]
_KINDS: tuple[ForgeKind, ...] = get_args(ForgeKind)
_MAX_TOKEN_BYTES = 4_096
_API: Mapping[str, str] = {"github": "/api/v3", "gitlab": "/api/v4", "gitea": "/api/v1", "forgejo": "/api/v1"}


@dataclass(frozen=True, slots=True, kw_only=True)
class ForgeConfig:
    kind: ForgeKind
    url: str
    """Where people find it: https://gitlab.example.com."""
    token_env: str | None = None
    token_file: Path | None = field(default=None, repr=False)
    """One of the two is set."""
    ca_file: Path | None = None
    minutes: float = 5.0
    """Between two questions."""

    @property
    def host(self) -> str:
        """As it stands in repositories' identities."""
        return urlsplit(self.url).hostname or ""

    @property
    def api(self) -> str:
        if self.kind == "github" and self.host == "github.com":
            return "https://api.github.com"
        return self.url.rstrip("/") + _API[self.kind]

    def token(self) -> str:
        """Read anew each time, so that it can be changed. Raises ConfigError."""
        if self.token_env is not None:
            origin, text = f"environment variable {self.token_env}", os.environ.get(self.token_env, "")
        else:
            assert self.token_file is not None
            origin, text = str(self.token_file), _read(self.token_file)
        token = text.strip()
        if not token or not token.isascii() or any(ord(c) < 33 for c in token):
            raise ConfigError(f"{origin}: holds no token; put the one for {self.url} there")
        return token


_KEYS = tuple(f.name for f in fields(ForgeConfig))


def parse_forges(value: object, origin: str, base: Path) -> tuple[ForgeConfig, ...]:
    """The tables under `forge` in a settings file called `origin` in the messages. Relative paths count from `base`.
    Raises ConfigError."""
    if not isinstance(value, list) or not all(isinstance(table, dict) for table in value):
        raise ConfigError(f"{origin}: {FORGE_TABLE}: is not a list of tables; write [[{FORGE_TABLE}]] above each")
    found = tuple(_forge(table, f"{origin}: {FORGE_TABLE} {n}", base) for n, table in enumerate(value, 1))
    hosts = [forge.host for forge in found]
    for host in hosts:
        if hosts.count(host) > 1:
            raise ConfigError(f"{origin}: {FORGE_TABLE}: {host} is there twice; remove one of the two tables")
    return found


def _forge(table: Mapping[str, object], where: str, base: Path) -> ForgeConfig:
    for key in table:
        if key not in _KEYS:
            raise ConfigError(f"{where}: {key}: unknown key{nearest(key, _KEYS, 'keys')}")
    kind = next((known for known in _KINDS if known == table.get("kind")), None)
    if kind is None:
        raise ConfigError(f"{where}: kind: choose from {', '.join(_KINDS)}")
    texts = {key: _text(table, key, where) for key in ("token_env", "token_file", "ca_file")}
    if (texts["token_env"] is None) == (texts["token_file"] is None):
        raise ConfigError(f"{where}: give one of token_env and token_file; it needs to see who may read repositories")
    minutes = table.get("minutes", 5.0)
    if isinstance(minutes, bool) or not isinstance(minutes, int | float) or not 0 < minutes <= 1_440:
        raise ConfigError(f"{where}: minutes: {minutes!r} is no number above 0 and up to 1440")
    return ForgeConfig(
        kind=kind,
        url=_url(table, where),
        token_env=texts["token_env"],
        token_file=base / texts["token_file"] if texts["token_file"] is not None else None,
        ca_file=base / texts["ca_file"] if texts["ca_file"] is not None else None,
        minutes=float(minutes),
    )


def _url(table: Mapping[str, object], where: str) -> str:
    url = _text(table, "url", where) or ""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username is not None or parts.query:
        raise ConfigError(f"{where}: url: is no address of a forge; it looks like https://gitlab.example.com")
    return url


def _text(table: Mapping[str, object], key: str, where: str) -> str | None:
    value = table.get(key)
    if value is not None and (not isinstance(value, str) or not value.strip() or not value.isprintable()):
        raise ConfigError(f"{where}: {key}: is not a line of text")
    return value


def _read(path: Path) -> str:
    try:
        with path.open("rb") as handle:
            if stat.S_IMODE(os.fstat(handle.fileno()).st_mode) & 0o077:
                raise ConfigError(f"{path}: others can read this token; run `chmod 600 {path}`")
            return handle.read(_MAX_TOKEN_BYTES).decode("utf-8", "replace")
    except OSError as error:
        raise ConfigError(f"{path}: the token can't be read ({error.strerror}); check token_file") from error
