"""The language table (`languages.toml`): by file name, and by the names editors use."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files


@dataclass(frozen=True, slots=True, kw_only=True)
class Language:
    name: str
    comment: str
    extensions: tuple[str, ...] = ()
    filenames: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()
    """Other names editors send for it."""
    grammar: tuple[str, str] | None = None
    """Module and function of its tree-sitter grammar; None is chunked by lines."""


@cache
def languages() -> dict[str, Language]:
    raw = tomllib.loads(files("homespun_core").joinpath("languages.toml").read_text(encoding="utf-8"))
    return {name: _language(name, entry) for name, entry in raw.items()}


def language_of_path(path: str) -> Language | None:
    """By file name, then by extension; None for what isn't source code."""
    name = path.rpartition("/")[2]
    stem, dot, extension = name.rpartition(".")
    return _by_filename().get(name) or (_by_extension().get(dot + extension) if stem else None)


def language_named(name: str | None) -> Language | None:
    """By our name or an editor's (`typescriptreact`, `shellscript`); None when unknown."""
    return _by_name().get(name.lower()) if name else None


def comment_prefix(name: str | None) -> str:
    """How a line comment starts; `#` where the language is unknown."""
    language = language_named(name)
    return language.comment if language else "#"


def _language(name: str, entry: dict[str, object]) -> Language:
    module, _, function = str(entry.get("grammar", "")).partition(":")
    return Language(
        name=name,
        comment=str(entry["comment"]),
        extensions=_texts(entry.get("extensions")),
        filenames=_texts(entry.get("filenames")),
        aliases=_texts(entry.get("aliases")),
        grammar=(module, function) if function else None,
    )


def _texts(value: object) -> tuple[str, ...]:
    return tuple(str(v) for v in value) if isinstance(value, list) else ()


@cache
def _by_extension() -> dict[str, Language]:
    return {ext: lang for lang in languages().values() for ext in lang.extensions}


@cache
def _by_filename() -> dict[str, Language]:
    return {name: lang for lang in languages().values() for name in lang.filenames}


@cache
def _by_name() -> dict[str, Language]:
    return {name: lang for lang in languages().values() for name in (lang.name, *lang.aliases)}
