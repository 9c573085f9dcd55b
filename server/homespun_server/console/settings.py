"""The settings as they hold, with where each comes from. Secrets are said to be set, and no more."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from homespun_core.config import SETTINGS, Settings
from homespun_core.paths import hide_credentials

_SECRET_ENDS = ("_token", "_secret", "_password", "_key")


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    name: str
    value: str
    origin: str
    """Where it comes from; `default` for one that nobody set."""
    help: str
    is_changed: bool


def effective(settings: Settings, origins: Mapping[str, str]) -> Sequence[Setting]:
    return [
        Setting(
            name=name,
            value=shown(name, getattr(settings, name)),
            origin=origins.get(name, "default"),
            help=item.metadata["help"],
            is_changed=getattr(settings, name) != item.default,
        )
        for name, item in SETTINGS.items()
    ]


def shown(name: str, value: object) -> str:
    if is_secret(name):
        return "set" if value else "not set"
    if isinstance(value, bool):
        return "on" if value else "off"
    if name == "database_url" and value:  # a password may stand in it in several places
        return f"{str(value).partition(':')[0]}:…"
    return hide_credentials(str(value))


def is_secret(name: str) -> bool:
    return name.endswith(_SECRET_ENDS)
