"""Repositories as the settings file names them: one `[[repository]]` table each, checked as strictly as settings."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path

from homespun_core.errors import ConfigError
from homespun_core.languages import language_named, languages
from homespun_core.paths import (
    hide_credentials,
    is_remote,
    repo_identity,
    repo_identity_on_disk,
    why_unreadable,
)

TABLE = "repository"
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceRules:
    """Which files of a repository its owner wants to count. Empty means all; globs are patterns of .gitignore."""

    languages: tuple[str, ...] = ()
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()

    def key(self) -> tuple[tuple[str, ...], ...]:
        """What an index built under these rules is told apart by; a JSON value. The order of globs matters."""
        return (tuple(sorted(self.languages)), self.include, self.exclude)


@dataclass(frozen=True, slots=True, kw_only=True)
class RepositoryConfig:
    """A repository and how to read it. None leaves the choice to the repository or to the setting of that name."""

    source: str
    """Directory of a local repository, or a URL."""
    name: str | None = None
    branch: str | None = None
    rules: SourceRules = SourceRules()
    groups: tuple[str, ...] = ()
    """Access groups that may see its code; empty is everybody who may use the server."""
    max_repo_mb: int | None = None
    max_clone_mb: int | None = None
    timeout_s: int | None = None
    index_minutes: int | None = None
    token_file: Path | None = field(default=None, repr=False)
    token_env: str | None = None
    """Environment variable with the token. At most one of the two is set."""
    user: str = "oauth2"
    """Goes with the token: GitLab wants this name for OAuth tokens; it, GitHub and Gitea take any for the others."""
    keep_completions: bool = False
    """Whether the server keeps completions that were shown, with their prompts: code, in its database."""


_TEXTS = ("languages", "include", "exclude", "groups")
_NUMBERS = ("max_repo_mb", "max_clone_mb", "timeout_s", "index_minutes")
_SWITCHES = ("keep_completions",)
_RULES = tuple(f.name for f in fields(SourceRules))
KEYS = ("source", "name", "branch", *_TEXTS, *_NUMBERS, *_SWITCHES, "token_file", "token_env", "user")


def parse_repositories(value: object, origin: str, base: Path) -> tuple[RepositoryConfig, ...]:
    """The tables under `repository` in a settings file called `origin` in the messages. Relative paths count from
    `base`. Raises ConfigError."""
    if not isinstance(value, list) or not all(isinstance(table, dict) for table in value):
        raise ConfigError(f"{origin}: {TABLE}: is not a list of tables; write [[{TABLE}]] above each repository")
    found = tuple(_repository(table, f"{origin}: {TABLE} {n}", base) for n, table in enumerate(value, 1))
    _refuse_twins([(repo_identity_on_disk(r.source), "source", hide_credentials(r.source)) for r in found], origin)
    _refuse_twins([(repo.name, "name", repo.name) for repo in found if repo.name], origin)
    return found


def chosen(configured: Sequence[RepositoryConfig], sources: Sequence[str]) -> tuple[RepositoryConfig, ...]:
    """The repositories a command is about: those named by source or by configured name, or all that are configured.

    Raises ConfigError when there are none, or one is a URL that can't be read for certain.
    """
    for unreadable in filter(None, map(why_unreadable, sources)):
        raise ConfigError(unreadable)
    if not sources and not configured:
        raise ConfigError(
            f"no repository given: name a directory or URL, or write [[{TABLE}]] tables with a source in homespun.toml"
        )
    found = [_configured(configured, source.strip()) for source in sources] if sources else configured
    return tuple(dict.fromkeys(found))


def nearest(word: str, known: Iterable[str], what: str) -> str:
    """The end of a message about an unknown word: what was probably meant, or all there is."""
    names = list(known)
    close = difflib.get_close_matches(word, names, n=1, cutoff=0.5)
    return f"; did you mean {close[0]!r}?" if close else f"; the {what} are {', '.join(names)}"


def _configured(configured: Iterable[RepositoryConfig], source: str) -> RepositoryConfig:
    """A name counts where no such directory exists, so that a path means the same with and without configuration. A
    folder inside a repository is that repository."""
    identity, whole = repo_identity(source), repo_identity_on_disk(source)
    for repo in configured:
        if repo_identity_on_disk(repo.source) == whole or (repo.name == source and not Path(identity).exists()):
            return repo
    return RepositoryConfig(source=source)


def _repository(table: Mapping[str, object], where: str, base: Path) -> RepositoryConfig:
    for key in table:
        if key not in KEYS:
            raise ConfigError(f"{where}: {key}: unknown key{nearest(key, KEYS, 'keys')}")
    if "source" not in table:
        raise ConfigError(f"{where}: source is missing; give the directory or URL of the repository")
    values = {key: _checked(key, value, f"{where}: {key}") for key, value in table.items()}
    if "token_file" in values and "token_env" in values:
        raise ConfigError(f"{where}: token_file and token_env are both set; keep the one that holds the token")
    values["source"] = _place(str(values["source"]), base)
    if "token_file" in values:
        values["token_file"] = base / _expanded(str(values["token_file"]), f"{where}: token_file")
    rules = SourceRules(**{key: values.pop(key) for key in _RULES if key in values})  # type: ignore[arg-type]
    return RepositoryConfig(rules=rules, **values)  # type: ignore[arg-type]  # each value was checked under its key


def _checked(key: str, value: object, where: str) -> object:
    if key == "source" and isinstance(value, str) and (unreadable := why_unreadable(value)):
        raise ConfigError(f"{where}: {unreadable}")
    if key in _NUMBERS:
        return _number(value, where)
    if key in _SWITCHES:
        return _switch(value, where)
    if key not in _TEXTS:
        text = _text(value, where)
        if key == "token_env" and not _VARIABLE.fullmatch(text):
            raise ConfigError(f"{where}: not the name of an environment variable; the token itself goes into it")
        if key == "token_env" and text.startswith("HOMESPUN_"):
            raise ConfigError(f"{where}: {text!r}: names with HOMESPUN_ are settings; choose another variable")
        return text
    texts = _texts(value, where)
    return tuple(_language(text, where) for text in texts) if key == "languages" else texts


def _number(value: object, where: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise ConfigError(f"{where}: {value!r} is not a whole number")
    if value < 1:
        raise ConfigError(f"{where}: {value} is below 1")
    return value


def _switch(value: object, where: str) -> bool:
    if not isinstance(value, bool):
        raise ConfigError(f"{where}: {value!r} is not true or false")
    return value


def _text(value: object, where: str) -> str:
    shown = hide_credentials(repr(value))
    if not isinstance(value, str):
        raise ConfigError(f"{where}: {shown} is not text")
    if not value.strip() or any(ord(c) < 32 for c in value):
        raise ConfigError(f"{where}: {shown} is empty or has control characters; write one line of text")
    return value.strip()


def _texts(value: object, where: str) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise ConfigError(f"{where}: {value!r} is not a list; write it in [brackets]")
    return tuple(_text(item, where) for item in value)


def _language(name: str, where: str) -> str:
    language = language_named(name)
    if language is None:
        raise ConfigError(f"{where}: {name!r} is not a known language{nearest(name, languages(), 'languages')}")
    return language.name


def _expanded(path: str, where: str) -> Path:
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise ConfigError(f"{where}: {path!r}: no such home directory; set HOME or write the whole path") from None


def _place(source: str, base: Path) -> str:
    """A relative path counts from the settings file's folder, so that it means the same wherever we are started."""
    return source if is_remote(source) or source.startswith(("~", "file:")) else str(base / source)


def _refuse_twins(labelled: Iterable[tuple[str, str, str]], origin: str) -> None:
    seen: set[str] = set()
    for value, key, shown in labelled:
        if value in seen:
            raise ConfigError(f"{origin}: {TABLE}: {key} {shown!r} is there twice; remove one of the two tables")
        seen.add(value)
