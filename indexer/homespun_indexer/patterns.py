"""Path patterns in the language of .gitignore, for .homespunignore and .gitattributes.

Own code, because `git check-attr` can't read a commit's attributes before git 2.40 and `git check-ignore` knows no
other file.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache


@dataclass(frozen=True, slots=True)
class Pattern:
    expression: re.Pattern[str]
    negated: bool


def parse_ignore(text: str, base: str = "") -> list[Pattern]:
    """The patterns of an ignore file that lies in the directory `base` ("" is the root)."""
    lines = (line.strip() for line in text.splitlines())
    return [_pattern(line, base) for line in lines if line and not line.startswith("#")]


def is_ignored(path: str, patterns: Sequence[Pattern]) -> bool:
    """The last pattern that matches decides. Unlike git, a file can be taken back out of an ignored directory."""
    return next((not p.negated for p in reversed(patterns) if p.expression.match(path)), False)


def parse_attributes(text: str, base: str, names: Iterable[str]) -> list[tuple[Pattern, str, bool]]:
    """(pattern, attribute, value) for the attributes called `names`, in file order: a later match overrides."""
    wanted = set(names)
    rules = []
    for line in text.splitlines():
        glob, *attributes = line.split() or [""]
        if not glob or glob.startswith(("#", "[")):
            continue
        for attribute in attributes:
            name, _, value = attribute.lstrip("-!").partition("=")
            if name in wanted:
                rules.append((_pattern(glob, base), name, not attribute.startswith(("-", "!")) and value != "false"))
    return rules


@lru_cache(maxsize=10_000)
def _pattern(line: str, base: str) -> Pattern:
    negated, glob = line.startswith("!"), line.removeprefix("!")
    anchored = "/" in glob.rstrip("/")
    only_inside = glob.endswith("/")
    body = _regex(glob.strip("/"))
    start = re.escape(f"{base}/" if base else "") + ("" if anchored else "(?:.*/)?")
    return Pattern(re.compile(f"{start}{body}{'/.*' if only_inside else '(?:/.*)?'}$", re.DOTALL), negated)


def _regex(glob: str) -> str:
    out, i = "", 0
    while i < len(glob):
        if glob.startswith("**/", i):
            out, i = f"{out}(?:.*/)?", i + 3
        elif glob.startswith("**", i):
            out, i = f"{out}.*", i + 2
        elif glob[i] == "*":
            out, i = f"{out}[^/]*", i + 1
        elif glob[i] == "?":
            out, i = f"{out}[^/]", i + 1
        elif (match := re.compile(r"\[(!|\^)?([^\]\[]+)\]").match(glob, i)) is not None:
            out, i = f"{out}[{'^' if match[1] else ''}{match[2].replace(chr(92), chr(92) * 2)}]", match.end()
        else:
            out, i = out + re.escape(glob[i]), i + 1
    return out
