"""Settings from four places, unknown names refused, and as flags for people and for child processes.

Precedence: default < homespun.toml < HOMESPUN_* environment variable < command-line flag. Everything is checked at
start; a `Settings` object never changes afterwards.
"""

from __future__ import annotations

import argparse
import os
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import Field, dataclass
from pathlib import Path
from typing import Any

from homespun_core.config import SETTINGS, Settings
from homespun_core.errors import ConfigError
from homespun_core.forges import FORGE_TABLE, ForgeConfig, parse_forges
from homespun_core.notify import NOTIFY_TABLE, NotifyConfig, parse_notify
from homespun_core.prompt_versions import PROMPT_TABLE, PromptVersion, parse_prompts
from homespun_core.repositories import TABLE, RepositoryConfig, chosen, nearest, parse_repositories
from homespun_core.scopes import SCOPE_TABLE, ScopeConfig, parse_scopes

CONFIG_NAME = "homespun.toml"
ENV_PREFIX = "HOMESPUN_"
_TABLES = (TABLE, SCOPE_TABLE, FORGE_TABLE, NOTIFY_TABLE, PROMPT_TABLE)


@dataclass(frozen=True, slots=True)
class LoadedSettings:
    settings: Settings
    sources: Mapping[str, str]
    """Setting -> where its value came from, for `homespun doctor`; defaults are left out."""
    repositories: tuple[RepositoryConfig, ...] = ()
    """Those of the settings file, in its order."""
    scopes: tuple[ScopeConfig, ...] = ()
    """Adapters that several of them share."""
    forges: tuple[ForgeConfig, ...] = ()
    """Those that are asked who may read what."""
    notify: tuple[NotifyConfig, ...] = ()
    """Who wants to hear of what happens."""
    prompts: tuple[PromptVersion, ...] = ()
    """Other prompts that a share of the users tries."""

    def chosen(self, sources: Sequence[str]) -> tuple[RepositoryConfig, ...]:
        """What a command is about that was given these sources or names; all that are configured when given none."""
        return chosen(self.repositories, sources)

    def scope(self, word: str) -> ScopeConfig | None:
        """The shared adapter of that name. As with repositories, a directory that is there comes first."""
        named = next((scope for scope in self.scopes if word in (scope.name, scope.id)), None)
        return None if named is None or Path(word).exists() else named


def load_settings(
    flags: Mapping[str, object], environ: Mapping[str, str], config: Path | None = None
) -> LoadedSettings:
    """Merge the four sources. `flags` holds the given ones only. Raises ConfigError on anything unknown or out of
    range.

    Without `config`, `homespun.toml` in the working directory is read if it is there; in a repository it is refused,
    since one that was only cloned to be looked at must not say where its reader's code and models are.
    """
    values: dict[str, object] = {}
    sources: dict[str, str] = {}
    path = config or Path(CONFIG_NAME)
    if config is None and path.is_file() and _is_foreign_repository(Path.cwd()):
        raise ConfigError(
            f"{CONFIG_NAME}: a repository's own settings are not followed; if you mean it: --config {path}"
        )
    file = _read_toml(path, required=config is not None)
    repositories = parse_repositories(file.pop(TABLE, []), str(path), path.absolute().parent)
    scopes = parse_scopes(file.pop(SCOPE_TABLE, []), str(path), repositories)
    forges = parse_forges(file.pop(FORGE_TABLE, []), str(path), path.absolute().parent)
    notify = parse_notify(file.pop(NOTIFY_TABLE, []), str(path), environ)
    prompts = parse_prompts(file.pop(PROMPT_TABLE, []), str(path), _checked)
    layers: list[tuple[str, Mapping[str, object]]] = [
        (str(path), file),
        ("environment", _read_environ(environ)),
        ("command line", flags),
    ]
    for origin, layer in layers:
        for name, value in layer.items():
            if name not in SETTINGS:
                is_table = isinstance(value, list | dict)
                meant = nearest(name, _TABLES if is_table else SETTINGS, "tables" if is_table else "settings")
                raise ConfigError(f"{_spell(name, origin)}: unknown setting{meant}")
            values[name] = _checked(name, value, origin)
            sources[name] = origin
    settings = Settings(**values)  # type: ignore[arg-type]  # each value was checked against its field
    return LoadedSettings(settings, sources, repositories, scopes, forges, notify, prompts)


def add_flags(parser: argparse.ArgumentParser, verbs: Iterable[str]) -> None:
    """A flag for every setting of these verbs, and --config. Absent flags leave no attribute behind."""
    wanted = set(verbs)
    group = parser.add_argument_group(
        "settings", "each can also stand in homespun.toml or the environment (HOMESPUN_PORT=9000)"
    )
    group.add_argument(
        "--config", type=Path, metavar="FILE", help=f"settings file (default: {CONFIG_NAME} here, if it exists)"
    )
    for name, item in SETTINGS.items():
        if not wanted & set(item.metadata["verbs"]):
            continue
        flag = "--" + name.replace("_", "-")
        shown = f"{item.metadata['help']}{_default_note(item)}"
        if item.type == "bool":
            group.add_argument(flag, action=argparse.BooleanOptionalAction, default=argparse.SUPPRESS, help=shown)
        else:
            choices = item.metadata["choices"] or None
            metavar = None if choices else {"int": "N", "float": "X"}.get(str(item.type), "VALUE")
            group.add_argument(flag, default=argparse.SUPPRESS, help=shown, metavar=metavar, choices=choices)


def settings_from_args(args: argparse.Namespace, environ: Mapping[str, str] = os.environ) -> LoadedSettings:
    flags = {name: value for name, value in vars(args).items() if name in SETTINGS}
    return load_settings(flags, environ, getattr(args, "config", None))


def as_flags(settings: Settings, verbs: Iterable[str]) -> list[str]:
    """The flags that give a child process of these verbs the same settings. Never the token: that goes by
    environment.
    """
    wanted = set(verbs)
    argv: list[str] = []
    for name, item in SETTINGS.items():
        value = getattr(settings, name)
        if not wanted & set(item.metadata["verbs"]):
            continue
        flag = name.replace("_", "-")
        argv += [f"--{flag}" if value else f"--no-{flag}"] if isinstance(value, bool) else [f"--{flag}={value}"]
    return argv


def _is_foreign_repository(directory: Path) -> bool:
    """Whether `directory` lies in a git work tree other than a clone of Homespun that runs this."""
    root = next((d for d in (directory, *directory.parents) if (d / ".git").exists()), None)
    return root is not None and not Path(__file__).resolve().is_relative_to(root.resolve())


def _default_note(item: Field[Any]) -> str:
    if item.default == "" or "default:" in item.metadata["help"]:
        return ""
    value = (
        {True: "on", False: "off"}.get(item.default, item.default) if isinstance(item.default, bool) else item.default
    )
    return f" (default: {value})"


def _read_toml(path: Path, *, required: bool) -> dict[str, object]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        if required:
            raise ConfigError(f"{path}: no such settings file") from None
        return {}
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: {error}") from error


def _read_environ(environ: Mapping[str, str]) -> Mapping[str, object]:
    return {k.removeprefix(ENV_PREFIX).lower(): v for k, v in environ.items() if k.startswith(ENV_PREFIX)}


_WORDS = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}


def _checked(name: str, value: object, origin: str) -> object:
    item = SETTINGS[name]
    where = _spell(name, origin)
    parsed = _parsed(str(item.type), value, where)
    choices, low, high = item.metadata["choices"], item.metadata["low"], item.metadata["high"]
    if choices and parsed not in choices:
        raise ConfigError(f"{where}: {parsed!r} is not one of {', '.join(choices)}")
    if low is not None and isinstance(parsed, int | float) and parsed < low:
        raise ConfigError(f"{where}: {parsed} is below {low:g}")
    if high is not None and isinstance(parsed, int | float) and parsed > high:
        raise ConfigError(f"{where}: {parsed} is above {high:g}; give {low:g} to {high:g}")
    return parsed


def _parsed(kind: str, value: object, where: str) -> object:
    """`value` as the kind its field has; text is converted, other types must already fit."""
    if kind == "str" and isinstance(value, str):
        return value
    if kind == "bool":
        if isinstance(value, bool):
            return value
        if isinstance(value, str) and value.lower() in _WORDS:
            return _WORDS[value.lower()]
    if kind in ("int", "float") and not isinstance(value, bool) and isinstance(value, int | float | str):
        try:
            number = float(value) if kind == "float" else int(value)
        except ValueError:
            number = float("nan")
        if (
            number == number
            and abs(number) != float("inf")
            and not (kind == "int" and isinstance(value, float) and value != number)
        ):
            return number
    wanted = {"str": "text", "bool": "true or false", "int": "a whole number", "float": "a number"}[kind]
    raise ConfigError(f"{where}: {value!r} is not {wanted}")


def _spell(name: str, origin: str) -> str:
    """The setting as the user wrote it."""
    if origin == "environment":
        return ENV_PREFIX + name.upper()
    if origin == "command line":
        return "--" + name.replace("_", "-")
    return f"{origin}: {name}"
