"""Who wants to hear of what happens here (`[[notify]]` tables): addresses that the server posts to."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from urllib.parse import urlsplit

from homespun_core.errors import ConfigError
from homespun_core.paths import hide_credentials
from homespun_core.repositories import nearest

NOTIFY_TABLE = "notify"
WORK = (
    "adapter.promoted",
    "adapter.candidate",
    "adapter.rolled_back",
    "adapter.turned_down",
    "adapter.retired",
    "adapter.pinned",
    "adapter.unpinned",
    "job.done",
    "job.failed",
    "job.cancelled",
    "repository.failed",
    "drift.alarm",
    "acceptance.alarm",
)
PEOPLE = (
    "user.added",
    "user.changed",
    "user.activated",
    "user.deactivated",
    "user.erased",
    "team.changed",
    "access.changed",
    "token.created",
    "token.revoked",
    "token.refused",
)
"""Told of only to whom they are named for: what people do here is nobody's news by default."""
EVENTS = (*WORK, *PEOPLE)
_KEYS = ("url", "events", "secret", "secret_env", "internal")
_SHORTEST_SECRET = 16
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@dataclass(frozen=True, slots=True, kw_only=True)
class NotifyConfig:
    url: str
    events: tuple[str, ...] = WORK
    secret: str = field(repr=False)
    """What messages are signed with: any text, or `whsec_` and base64."""
    internal: bool = False
    """A host of ours: may have a private address, and speak plain HTTP."""


def parse_notify(value: object, origin: str, environ: Mapping[str, str] = os.environ) -> tuple[NotifyConfig, ...]:
    """The tables under `notify` in a settings file called `origin` in the messages. Raises ConfigError."""
    if not isinstance(value, list) or not all(isinstance(table, dict) for table in value):
        raise ConfigError(f"{origin}: {NOTIFY_TABLE}: is not a list of tables; write [[{NOTIFY_TABLE}]] above each")
    return tuple(_notify(table, f"{origin}: {NOTIFY_TABLE} {n}", environ) for n, table in enumerate(value, 1))


def _notify(table: Mapping[str, object], where: str, environ: Mapping[str, str]) -> NotifyConfig:
    for key in table:
        if key not in _KEYS:
            raise ConfigError(f"{where}: {key}: unknown key{nearest(key, _KEYS, 'keys')}")
    internal = table.get("internal", False)
    if not isinstance(internal, bool):
        raise ConfigError(f"{where}: internal: {internal!r} is not true or false")
    return NotifyConfig(
        url=_url(table.get("url"), where, internal=internal),
        events=_events(table.get("events", list(WORK)), where),
        secret=_secret(table, where, environ),
        internal=internal,
    )


def _url(value: object, where: str, *, internal: bool) -> str:
    if not isinstance(value, str):
        raise ConfigError(f"{where}: url is missing; it looks like https://chat.example.com/hooks/homespun")
    try:
        parts = urlsplit(value)
        _ = parts.port
    except ValueError:
        raise ConfigError(f"{where}: url: can't be read") from None
    if parts.username is not None or parts.password is not None:
        raise ConfigError(f"{where}: url: {hide_credentials(value)}: holds a password; messages are signed instead")
    if not parts.hostname or parts.scheme not in (("https", "http") if internal else ("https",)):
        raise ConfigError(f"{where}: url: {value!r} doesn't begin with https:// (http:// needs internal = true)")
    return value


def _events(value: object, where: str) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise ConfigError(f"{where}: events: {value!r} is not a list of names; write it in [brackets]")
    meant = {name: [event for event in EVENTS if fnmatchcase(event, name)] for name in value}
    for name, found in meant.items():
        if not found:
            raise ConfigError(f"{where}: events: {name!r}: no such event{nearest(name, EVENTS, 'events')}")
    return tuple(dict.fromkeys(event for found in meant.values() for event in found))


def _secret(table: Mapping[str, object], where: str, environ: Mapping[str, str]) -> str:
    """The secret itself, or from the environment variable that the table names."""
    if ("secret" in table) == ("secret_env" in table):
        raise ConfigError(f"{where}: write secret or secret_env, one of them")
    variable = table.get("secret_env")
    if variable is not None and (not isinstance(variable, str) or not _VARIABLE.fullmatch(variable)):
        raise ConfigError(f"{where}: secret_env: not the name of an environment variable")
    value = table.get("secret") if variable is None else environ.get(str(variable), "")
    if not isinstance(value, str) or len(value) < _SHORTEST_SECRET:
        shown = "secret" if variable is None else f"secret_env: {variable}"
        raise ConfigError(f"{where}: {shown}: has less than {_SHORTEST_SECRET} characters; try: openssl rand -hex 32")
    return value
