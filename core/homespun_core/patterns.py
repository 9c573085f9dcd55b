"""Path patterns in the language of .gitignore, for .homespunignore, .gitattributes and the globs of the settings.

Own code, because `git check-attr` can't read a commit's attributes before git 2.40 and `git check-ignore` knows no
other file. Repositories are untrusted: an expression never goes back over what it has matched (the first place where
what stands between two stars fits is as good as any later one, so it is kept), which bounds the time by length of path
times length of pattern.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice

logger = logging.getLogger(__name__)

IGNORE_FILE = ".homespunignore"
"""At the root of a repository: what stays out of completion."""
MAX_PATTERNS = 1_000
"""Of one repository. The largest .gitattributes we have seen has some hundred."""
MAX_CHARS = 250
"""Of one pattern."""
_NEVER = "(?!)"
_MARK = "\0"  # in no path
_CLASS = re.compile(r"\[([!^]?)(\]?(?:\[:[a-z]*:\]|\\.|[^\]\\])*+)\]", re.DOTALL)
_CLASS_PART = re.compile(
    r"\[:(?P<posix>[a-z]*):\]|(?P<low>\\.|[^\\])-(?P<high>\\.|[^\\\]])|(?P<single>\\.|[^\\])", re.DOTALL
)
_POSIX = {
    "alnum": "0-9A-Za-z",
    "alpha": "A-Za-z",
    "blank": " \\t",
    "cntrl": "\\x00-\\x1f\\x7f",
    "digit": "0-9",
    "graph": "!-~",
    "lower": "a-z",
    "print": " -~",
    "punct": "!-/:-@\\[-`{-~",
    "space": " \\t-\\r",
    "upper": "A-Z",
    "xdigit": "0-9A-Fa-f",
}


@dataclass(frozen=True, slots=True)
class Pattern:
    expression: re.Pattern[str]
    """To be matched at the start of a path; matches the path itself or a directory that it lies in."""
    literal: str
    """In every path that matches: most don't have it, and looking for it takes a tenth of the time."""
    negated: bool

    def matches(self, path: str) -> bool:
        return self.literal in path and self.expression.match(path) is not None


def parse_ignore(text: str, base: str = "", *, limit: int = MAX_PATTERNS) -> list[Pattern]:
    """The patterns of an ignore file that lies in the directory `base` ("" is the root): `limit` at most."""
    lines = (_without_trailing_spaces(line.removesuffix("\r")) for line in _lines(text))
    globs = (line for line in lines if line and not line.startswith("#"))
    return [_pattern(glob, base) for glob in _bounded(globs, base, limit)]


def parse_globs(globs: Iterable[str]) -> list[Pattern]:
    return [_pattern(glob, "") for glob in globs]


def is_ignored(path: str, patterns: Sequence[Pattern]) -> bool:
    """The last pattern that matches decides. Unlike git, a file can be taken back out of an ignored directory."""
    for pattern in reversed(patterns):
        if pattern.literal in path and pattern.expression.match(path):
            return not pattern.negated
    return False


def parse_attributes(
    text: str, base: str, names: Iterable[str], *, limit: int = MAX_PATTERNS
) -> list[tuple[Pattern, str, bool]]:
    """(pattern, attribute, value) for the attributes called `names`, in file order: a later match overrides."""
    wanted = set(names)
    lines = (_attribute_line(line) for line in _lines(text))
    telling = (line for line in lines if line[0] and any(_attribute(a)[0] in wanted for a in line[1]))
    rules = []
    for glob, attributes in islice(telling, limit):
        if not _is_usable(glob, base):
            continue
        found = (_attribute(attribute) for attribute in attributes)
        rules += [(_pattern(glob, base), name, value) for name, value in found if name in wanted]
    if next(telling, None) is not None:
        _warn_of_limit(base)
    return rules


def _lines(text: str) -> list[str]:
    """Windows' editors put a byte order mark first, which git skips too."""
    return text.removeprefix("\ufeff").split("\n")


def _attribute_line(line: str) -> tuple[str, list[str]]:
    """Glob (empty: the line says nothing about paths) and attributes. A glob with spaces stands in quotes."""
    quoted = re.match(r'\s*"((?:[^"\\]|\\.)*+)"\s*(.*)', line)
    if quoted:
        return re.sub(r'\\(["\\])', r"\1", quoted[1]), quoted[2].split()
    glob, *attributes = line.split() or [""]
    return ("" if glob.startswith(("#", "[attr]", "!")) else glob), attributes


def _attribute(text: str) -> tuple[str, bool]:
    name, _, value = text.lstrip("-!").partition("=")
    return name, not text.startswith(("-", "!")) and value != "false"


def _bounded(globs: Iterator[str], base: str, limit: int) -> Iterator[str]:
    yield from (glob for glob in islice(globs, limit) if _is_usable(glob, base))
    if next(globs, None) is not None:
        _warn_of_limit(base)


def _is_usable(glob: str, base: str) -> bool:
    if len(glob) <= MAX_CHARS:
        return True
    logger.warning("%s: a pattern of %d characters is not followed; the limit is %d", base or ".", len(glob), MAX_CHARS)
    return False


def _warn_of_limit(base: str) -> None:
    logger.warning("%s: patterns after the first %d of the repository are not followed", base or ".", MAX_PATTERNS)


def _without_trailing_spaces(line: str) -> str:
    bare = line.rstrip(" ")
    is_escaped = (len(bare) - len(bare.rstrip("\\"))) % 2 == 1 and bare != line
    return bare + " " if is_escaped else bare


@lru_cache(maxsize=10_000)
def _pattern(line: str, base: str) -> Pattern:
    negated, glob = line.startswith("!"), line.removeprefix("!")
    start = f"{base}/" if base else ""
    return Pattern(
        re.compile(re.escape(start) + _body(glob), re.DOTALL), max(start, _longest_literal(glob), key=len), negated
    )


def _longest_literal(glob: str) -> str:
    """Of what stands in a glob as it is: not in classes, not escaped, not across slashes."""
    plain = re.sub(rf"{_CLASS.pattern}|\\.", "/", glob, flags=re.DOTALL)
    return max(re.split(r"[*?/\[\\]", plain), key=len)


def _body(glob: str) -> str:
    """The expression of a glob below its base.

    The parts between `**` are looked for one after the other, each as early as possible: a part matches a fixed number
    of names, so an earlier place leaves more to the rest. Each name is matched whole, slash to slash.
    """
    only_inside = glob.endswith("/")
    bare = glob.removesuffix("/")
    names = ["**" if re.fullmatch(r"\*{2,}", name) else name for name in _split(bare.removeprefix("/"))]
    if "/" not in bare:
        names = ["**", "*" if names[-1] == "**" else names[-1]]
    elif names[-1] == "**":
        names.append("*")
    end = "/" if only_inside else r"(?:/|\Z)"
    return "".join(_runs(names, end))


def _split(glob: str) -> list[str]:
    """The names of a path pattern. A slash in a character class is none between names."""
    return re.sub(rf"({_CLASS.pattern})|\\?/|(\\.)", _marked, glob, flags=re.DOTALL).split(_MARK)


def _marked(found: re.Match[str]) -> str:
    return _MARK if found[0] in ("/", "\\/") else found[0]


def _runs(names: Sequence[str], end: str) -> Iterator[str]:
    run: list[str] = []
    floating = False
    for name in [*names, None]:
        if name is not None and name != "**":
            run.append(_name(name))
            continue
        if run:
            body = "/".join(run) + (end if name is None else "/")
            yield f"(?>(?:[^/]*+/)*?{body})" if floating else body
        run, floating = [], True


def _name(glob: str) -> str:
    """One name. Between two stars, the first fit is kept; after the last, the end of the name has to be met."""
    pieces = _pieces(glob)
    if pieces is None:
        return _NEVER
    first, *others = pieces
    if not others:
        return first
    *middle, last = others
    found = "".join(f"(?>[^/]*?{piece})" for piece in middle if piece)
    # A lazy star before a piece of fixed length that has to end the name tries each place once.
    return f"{first}{found}[^/]*+" if not last else f"{first}{found}(?>[^/]*?{last}(?=/|\\Z))"


def _pieces(glob: str) -> list[str] | None:
    """What stands between the stars, each of a fixed length; None for a glob that can match nothing."""
    pieces, i = [""], 0
    while i < len(glob):
        char = glob[i]
        if char == "*":
            pieces, i = [*pieces, ""], i + len(glob[i:]) - len(glob[i:].lstrip("*"))
            continue
        if char == "[":
            part, i = _character_class(glob, i)
        elif char == "\\":
            part, i = (re.escape(glob[i + 1]) if i + 1 < len(glob) else ""), i + 2
        else:
            part, i = ("[^/]" if char == "?" else re.escape(char)), i + 1
        if not part:
            return None
        pieces[-1] += part
    return pieces


def _character_class(glob: str, start: int) -> tuple[str, int]:
    """(expression, where it ends); an empty one where the class isn't closed, or is of a kind that nobody knows."""
    match = _CLASS.match(glob, start)
    if match is None:
        return "", start
    parts = [_class_part(part) for part in _CLASS_PART.finditer(match[2])]
    if None in parts:
        return "", start
    inside = "".join(part or "" for part in parts)
    if match[1]:
        return f"[^/{inside}]", match.end()
    return f"(?!/)[{inside}]" if inside else _NEVER, match.end()


def _class_part(part: re.Match[str]) -> str | None:
    """None: git knows no such class. A range from high to low holds its first character, as in git."""
    if part["posix"] is not None:
        return _POSIX.get(part["posix"])
    if part["single"] is not None:
        return _literal(part["single"])
    low, high = _unescaped(part["low"]), _unescaped(part["high"])
    return f"{re.escape(low)}-{re.escape(high)}" if low <= high else re.escape(low)


def _literal(text: str) -> str:
    return re.escape(_unescaped(text))


def _unescaped(text: str) -> str:
    return text[1:] if len(text) == 2 else text
