"""Other prompts that a share of the users tries (`[[prompt]]` tables): settings that differ for them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from homespun_core.errors import ConfigError
from homespun_core.repositories import nearest

PROMPT_TABLE = "prompt"
PLAIN = "plain"
"""What those have who try none: the prompt of the settings."""
VARIED = ("retrieval", "snippet_count", "max_prompt_tokens", "editor_context")
"""Settings that shape a prompt, and may be others at each request at no cost."""
_KEYS = ("name", "percent", *VARIED)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,39}")

Check = Callable[[str, object, str], Any]
"""The value of a setting, by its name, as it stands somewhere, and where; raises ConfigError."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptVersion:
    name: str
    changes: Mapping[str, Any]
    """Settings, by name."""
    percent: float = 50.0
    """Share of the users who get it."""


def parse_prompts(value: object, origin: str, check: Check) -> tuple[PromptVersion, ...]:
    """The tables under `prompt` in a settings file called `origin` in the messages. Raises ConfigError."""
    if not isinstance(value, list) or not all(isinstance(table, dict) for table in value):
        raise ConfigError(f"{origin}: {PROMPT_TABLE}: is not a list of tables; write [[{PROMPT_TABLE}]] above each")
    found = tuple(_version(table, f"{origin}: {PROMPT_TABLE} {n}", check) for n, table in enumerate(value, 1))
    names = [version.name for version in found]
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f"{origin}: {PROMPT_TABLE}: name {name!r} is there twice; choose another for one of them")
    return found


def _version(table: Mapping[str, object], where: str, check: Check) -> PromptVersion:
    for key in table:
        if key not in _KEYS:
            raise ConfigError(f"{where}: {key}: can't be varied{nearest(key, _KEYS, 'keys')}")
    changes = {key: check(key, table[key], where) for key in VARIED if key in table}
    if not changes:
        raise ConfigError(f"{where}: changes nothing; set one of {', '.join(VARIED)}")
    return PromptVersion(
        name=_name(table.get("name"), where), changes=changes, percent=_percent(table.get("percent", 50.0), where)
    )


def _name(value: object, where: str) -> str:
    if not isinstance(value, str) or not _NAME.fullmatch(value):
        raise ConfigError(f"{where}: name: {value!r} is no name; write up to 40 letters, digits and any of . - _")
    if value == PLAIN:
        raise ConfigError(f"{where}: name: {value!r} is what it is compared with; choose another")
    return value


def _percent(value: object, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 100:
        raise ConfigError(
            f"{where}: percent: {value!r} is no share of the users; write a number above 0 and below 100, so that some"
            " try it and others don't"
        )
    return float(value)
