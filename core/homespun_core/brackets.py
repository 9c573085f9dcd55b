"""Brackets and strings of a piece of code, by a small scanner: no grammar, no parser. Pure.

It knows enough of a language not to take a bracket in a string or a comment for one in code. Where it can't know (a
piece that begins inside a string), it errs towards "in a string", where callers have no rules.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache

from homespun_core.languages import comment_prefix, language_named

OPENERS, CLOSERS = "([{", ")]}"
OPENER_OF = dict(zip(CLOSERS, OPENERS, strict=True))
_TRIPLED = frozenset(("python", "toml", "kotlin", "scala", "swift", "java", "dart", "elixir"))
_BACKTICKED = frozenset(("javascript", "typescript", "tsx", "go", "shell", "bash", "vue", "svelte"))
_CHARACTERS = frozenset(("rust", "c", "cpp", "csharp", "java", "kotlin", "scala", "haskell", "ocaml", "swift", "zig"))
"""Where a single quote encloses a character, or begins a lifetime or a type variable, but no string."""
_BEFORE_COMMENT = {"bash": r"(?<![^\s;&|])", "dockerfile": r"(?<![^\s;&|])", "perl": r"(?<!\$)"}
"""Where `#` begins no comment in a word: `$#`, `${#names[@]}`, `a#b`."""
_SPANNING = frozenset(
    ("bash", "dockerfile", "elixir", "make", "perl", "php", "r", "ruby", "rust", "sql", "svelte", "vue")
)
"""Where a string in plain quotes may go on in the next line, or quotes stand in text."""
_APOSTROPHE = re.compile(r"(?:[^\W\d_]{2}|\bI)'[^']*\Z")
_BLOCK_COMMENT = r"/\*(?:[^*]|\*(?!/))*+(?:\*/|\Z)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Scan:
    opened: str = ""
    """Brackets that are open at the end, outermost first."""
    closed: str = ""
    """Those that close what was opened before the beginning."""
    string: str = ""
    """The quotes of the string the end is in."""
    in_comment: bool = False

    @property
    def num_flaws(self) -> int:
        return len(self.opened) + len(self.closed) + bool(self.string)


def scan(text: str, language: str | None, start: Scan | None = None) -> Scan:
    """`start` is what came before; its open brackets may be closed here, its string goes on."""
    begin = start or Scan()
    opened, closed = list(begin.opened), list(begin.closed)
    at = _end_of_what_goes_on(text, begin)
    if at is None:
        return begin
    string, in_comment = "", False
    for found in _tokens(language).finditer(text, at):
        token = found[0]
        if token in OPENERS:
            opened.append(token)
        elif token in CLOSERS:
            if opened and opened[-1] == OPENER_OF[token]:
                opened.pop()
            else:
                closed.append(token)
        elif found.end() == len(text):
            string, in_comment = _unfinished(found)
    return Scan(opened="".join(opened), closed="".join(closed), string=string, in_comment=in_comment)


def brackets(text: str, language: str | None, start: Scan) -> Iterator[tuple[int, str]]:
    """Those in code, with their offsets."""
    at = _end_of_what_goes_on(text, start)
    found = _tokens(language).finditer(text, at) if at is not None else ()
    yield from ((match.start(), match[0]) for match in found if match[0] in OPENERS + CLOSERS)


def breaks_off(line: str, language: str | None, start: Scan) -> bool:
    """Whether it is in a string at its end that can't go on in the next. A quote in a word (`don't`) is no sign of
    that: the line may be prose of a comment that began elsewhere."""
    known, quote = language_named(language), scan(line, language, start).string
    if quote not in ("'", '"') or (known is not None and known.name in _SPANNING):
        return False
    return quote == '"' or not _APOSTROPHE.search(line)


def ends_a_pattern(bracket: str, opened: Sequence[str], language: str | None) -> bool:
    """Whether it is that of `case x in start)` in a shell, which closes nothing and is no mistake."""
    known = language_named(language)
    return bracket == ")" and list(opened[-1:]) != ["("] and known is not None and known.name == "bash"


def _unfinished(found: re.Match[str]) -> tuple[str, bool]:
    """Quotes of the string, and whether it is a comment, that a token at the end of the text leaves open."""
    if found["comment"] is not None:
        return "", True
    for name in ("long", "quoted"):
        if quote := found[name]:
            return ("" if found[f"{name}_end"] else quote), False
    return "", False


def _end_of_what_goes_on(text: str, begin: Scan) -> int | None:
    """Where the string or comment that `text` begins in ends; None if it doesn't."""
    if begin.string:
        return _end_of_string(text, begin.string)
    return _end_of_line(text) if begin.in_comment else 0


def _end_of_string(text: str, quote: str) -> int | None:
    """Possessive, and with one way to read each character: a backslash that could be read in two would double the
    time."""
    has_lines = len(quote) > 1 or quote == "`"
    inside, otherwise = (r"[^\\]", "") if has_lines else (r"[^\\\n]", r"|(?=\n)")
    found = re.compile(rf"(?:\\.|(?!{quote}){inside})*+(?:{quote}{otherwise})", re.DOTALL).match(text)
    return found.end() if found else None


def _end_of_line(text: str) -> int | None:
    at = text.find("\n")
    return at if at >= 0 else None


@cache
def _tokens(language: str | None) -> re.Pattern[str]:
    """Comments, strings and brackets; what is none of them is skipped."""
    known = language_named(language)
    name = known.name if known else language or ""
    line_comment = re.escape(comment_prefix(language))
    quotes = ['"'] if name in _CHARACTERS else ['"', "'"]
    parts = [rf"(?P<comment>{_BEFORE_COMMENT.get(name, '')}{line_comment}[^\n]*)"]
    if line_comment == "//":
        parts.append(_BLOCK_COMMENT)
    if name in _CHARACTERS:
        parts.append(r"'(?:\\[^\n']+|[^\\\n'])'")
    parts.append(_strings("long", _long_quotes(name), r"\\.|(?!(?P=long)).", r"\Z"))
    parts.append(_strings("quoted", quotes, r"\\.|(?!(?P=quoted))[^\n]", r"(?=\n)|\Z"))
    parts.append(r"[()\[\]{}]")
    return re.compile("|".join(parts), re.DOTALL)


def _long_quotes(name: str) -> list[str]:
    """Of strings that may have several lines."""
    tripled = ['"""'] if name in _TRIPLED else []
    return [*tripled, "'''"] if name in ("python", "toml") else [*tripled, "`"] if name in _BACKTICKED else tripled


def _strings(name: str, quotes: list[str], inside: str, otherwise: str) -> str:
    return rf"(?P<{name}>{'|'.join(quotes) or '(?!)'})(?:{inside})*+(?:(?P<{name}_end>(?P={name}))|{otherwise})"
