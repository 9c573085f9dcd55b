"""Values out of git's configuration files: git isn't run in a repository that may be hostile."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from homespun_lsp.plain_files import text_of

_SECTION = re.compile(r'\s*\[\s*([\w.-]+)(?:\s+"((?:[^"\\]|\\.)*)")?\s*\]\s*(.*)', re.DOTALL)
_VALUE = re.compile(r"\s*([A-Za-z][\w-]*)\s*=\s*(.*)", re.DOTALL)
_PART = re.compile(r'"(?P<quoted>(?:[^"\\]|\\.)*)"|(?P<plain>(?:[^"\\#;]|\\.)+)|(?P<rest>.)', re.DOTALL)
_ESCAPES = {"n": "\n", "t": "\t", "b": "\b"}
_MAX_FILES = 50


def user_files(environ: Mapping[str, str] = os.environ) -> list[Path]:
    """The machine's and the user's; what a later one says counts more."""
    system = [] if environ.get("GIT_CONFIG_NOSYSTEM") else [Path(environ.get("GIT_CONFIG_SYSTEM") or "/etc/gitconfig")]
    if (only := environ.get("GIT_CONFIG_GLOBAL")) is not None:
        return [*system, Path(only)]
    return [*system, user_folder(environ) / "config", Path.home() / ".gitconfig"]


def user_folder(environ: Mapping[str, str] = os.environ) -> Path:
    return Path(environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "git"


def value(files: Iterable[Path], name: str) -> str | None:
    """The last one that is called `name` (`core.excludesfile`, in small letters), with what the files include."""
    seen: set[Path] = set()
    found = [text for file in files for key, text in _entries(file, seen) if key == name]
    return found[-1] if found else None


def _entries(file: Path, seen: set[Path]) -> Iterator[tuple[str, str]]:
    """Each file once, since they may include one another. Includes that have conditions (`includeIf`) aren't
    followed."""
    if file in seen or len(seen) == _MAX_FILES:
        return
    seen.add(file)
    for key, text in parsed(text_of(file)):
        yield key, text
        if key == "include.path":
            yield from _entries(file.parent / expanded(text), seen)


def expanded(path: str) -> Path:
    """`~/` is the user's home. One with `~somebody` stays as it is, and so leads nowhere."""
    return Path.home() / path[2:] if path.startswith("~/") else Path(path)


def parsed(text: str) -> Iterator[tuple[str, str]]:
    """`section.name` or `section.subsection.name`, section and name in small letters."""
    section = ""
    for line in re.sub(r"\\\r?\n", "", text.removeprefix("\ufeff")).splitlines():
        if header := _SECTION.match(line):
            section = header[1].lower() + (f".{_unescaped(header[2])}" if header[2] is not None else "")
            line = header[3]
        if found := _VALUE.fullmatch(line):
            yield f"{section}.{found[1].lower()}", _text(found[2])


def _text(raw: str) -> str:
    """Without quotes, and without the comment behind it. Spaces count inside quotes only."""
    kept = ""
    for part in _PART.finditer(raw.strip()):
        if part["rest"] in ("#", ";"):
            return kept.rstrip()
        kept += _unescaped(part["quoted"] if part["quoted"] is not None else part["plain"] or "")
    return kept


def _unescaped(text: str) -> str:
    return re.sub(r"\\(.)", lambda found: _ESCAPES.get(found[1], found[1]), text, flags=re.DOTALL)
