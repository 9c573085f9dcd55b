"""Which names around a cursor a completion may need the definitions of: read from the text, without a syntax tree."""

from __future__ import annotations

import builtins
import keyword
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache, partial
from itertools import chain as joined

MAX_NAMES = 12
_LINES_BEFORE = 5
_LINES_AFTER = 3
_MAX_LINE = 400
_MAX_READ = 20_000
_MAX_LOOKED_BACK = 16
"""Places of a name that are looked at for its type: it is declared close to its use, or at the start of the file."""

_C_WORDS = (
    "break case catch class const continue default do else enum export extends false final finally for function if"
    " implements import in instanceof interface let new null of package private protected public return static super"
    " switch this throw throws true try type typeof undefined var void while yield async await abstract as from"
    " readonly keyof namespace declare boolean number string int long double float char byte short any unknown never"
)
_GO_WORDS = (
    "break case chan const continue default defer else fallthrough for func go goto if import interface map package"
    " range return select struct switch type var nil true false make len cap append copy delete new panic error string"
    " int int64 int32 uint64 byte rune bool float64 any iota"
)
_RUST_WORDS = (
    "as async await break const continue crate dyn else enum extern false fn for if impl in let loop match mod move mut"
    " pub ref return self Self static struct super trait true type unsafe use where while Some None Ok Err Box Vec"
    " Option Result String str u8 u16 u32 u64 i8 i16 i32 i64 usize isize f32 f64 bool char vec println format"
)
_WORDS: dict[str, frozenset[str]] = {
    "python": frozenset([*keyword.kwlist, *keyword.softkwlist, "self", "cls", *dir(builtins)]),
    "go": frozenset(_GO_WORDS.split()),
    "rust": frozenset(_RUST_WORDS.split()),
}
_OTHER_WORDS = frozenset(_C_WORDS.split())
_CONTAINERS = frozenset(
    {"Optional", "List", "Dict", "Set", "Tuple", "Sequence", "Iterable", "Iterator", "Mapping", "Union", "Any", "None"}
    | {"Array", "Promise", "Map", "Record", "Partial", "Readonly", "ReadonlyArray", "Self"}
    | {"Option", "Result", "Vec", "Box", "Rc", "Arc", "HashMap", "Collection", "Stream", "String"}
)

_NAME = r"[^\W\d][\w$]*+"
_CHAIN = re.compile(rf"{_NAME}(?:(?:\?\.|\.|::|->){_NAME})*+(?=(\s?\()?)")
_LINK = re.compile(r"\?\.|\.|::|->")
_OPEN_CHAIN = re.compile(rf"({_NAME}(?:(?:\(\))?(?:\?\.|\.|::|->){_NAME})*+)(?:\?\.|\.|::|->)$")
_STRING = re.compile(r"\"(?:[^\"\\\n]|\\.)*+\"|`[^`\n]*+`|'(?:[^'\\\n]|\\.)*+'")
_ANNOTATED = re.compile(r"\s{0,8}[?!]?:\s{0,8}(?!=)(?:[\"'&]|mut )?([\w.\[\], <>|?:]{1,80}+)")
_ASSIGNED = re.compile(r"[^\S\n]{0,8}:?=[^\S\n]{0,8}(?:await |new |&|\*)*((?:\w++(?:\.|::))*+)?(\w++)[^\S\n]?[({<:.]")
_GO_TYPED = re.compile(r"[^\S\n]+(?:\[\]|\*)*(?:\w++\.)?([A-Z]\w*+)")
_TYPE_BEFORE = re.compile(r"([A-Z]\w*+)(?:<[^<>\n]{0,60}>|\[\])?[^\S\n]+[*&]?$")
_TYPE = re.compile(r"\b[A-Z]\w*+")


@dataclass(frozen=True, slots=True)
class Reach:
    name: str
    qualifier: str
    """What stands before it: a module, a variable, or the type of that variable where it could be told; "" for none."""


Types = Callable[[str], tuple[str, ...]]
"""The types that the last declaration of a variable names."""


def names_in_reach(prefix: str, suffix: str, language: str) -> tuple[Reach, ...]:
    """Best first, at most MAX_NAMES: what the cursor hangs on, then calls and types, the nearer line first. The word
    that is being written is left out."""
    words = own_words(language) | _CONTAINERS
    declared = _without_last_word(prefix[-_MAX_READ:])
    types_of = cache(partial(type_names, text=declared))
    found: dict[Reach, None] = {}
    for reach in joined(_receiver(declared, types_of), _around(declared, suffix, language, types_of)):
        if reach.name not in words and len(reach.name) > 1 and not reach.name.startswith("__"):
            found[reach] = None
            if len(found) == MAX_NAMES:
                break
    return tuple(found)


def own_words(language: str) -> frozenset[str]:
    """Keywords and built-in names: nothing that a repository defines."""
    return _WORDS.get(language, _OTHER_WORDS)


def _without_last_word(text: str) -> str:
    end = len(text)
    while end > len(text) - _MAX_LINE and end > 0 and (text[end - 1].isalnum() or text[end - 1] in "_$"):
        end -= 1
    return text[:end]


def _receiver(declared: str, types_of: Types) -> Iterator[Reach]:
    """Of `self.basket.` the type of `basket`, and `basket` itself."""
    chain = _OPEN_CHAIN.search(declared[-120:])
    if chain is not None:
        yield from _reaches(chain[1].replace("()", ""), types_of)


def _around(declared: str, suffix: str, language: str, types_of: Types) -> Iterator[Reach]:
    comment = "#" if language in ("python", "ruby", "bash") else "//"
    for line in _near_lines(declared, suffix):
        bare = _STRING.sub("", line).partition(comment)[0]
        chains = list(_CHAIN.finditer(bare))[::-1]
        chains.sort(key=lambda chain: chain[1] is None and not chain[0][:1].isupper())
        for chain in chains:
            yield from _reaches(chain[0], types_of)


def _near_lines(declared: str, suffix: str) -> Iterator[str]:
    """That of the cursor, then those before, then those after."""
    window = 4 * _MAX_LINE * _LINES_BEFORE
    *lines, current = declared[-window:].split("\n")
    rest, *following = suffix[:window].split("\n")
    yield current[-_MAX_LINE:]
    yield from _filled(reversed(lines), _LINES_BEFORE - 1 if current.strip() else _LINES_BEFORE)
    yield from _filled([re.sub(r"^[\w$]+", "", rest[:_MAX_LINE]), *following], _LINES_AFTER)


def _filled(lines: Iterable[str], most: int) -> Iterator[str]:
    for line in lines:
        if most <= 0:
            return
        if line.strip():
            most -= 1
            yield line[:_MAX_LINE]


def _reaches(chain: str, types_of: Types) -> Iterator[Reach]:
    """`price_of` with qualifier `helper`, then `helper`; a variable is replaced by its type where that can be told."""
    *owners, name = _LINK.split(chain)
    types = types_of(name) if name[:1].islower() or name[:1] == "_" else ()
    if not owners or owners[-1] in ("self", "this", "cls", "super", "crate", "Self"):
        yield from (Reach(kind, "") for kind in types)
        if not types:
            yield Reach(name, "")
        return
    owner = owners[-1]
    owner_types = types_of(owner) if owner[:1].islower() or owner[:1] == "_" else ()
    yield from (Reach(name, kind) for kind in owner_types)
    if not owner_types:
        yield Reach(name, owner)
    yield from (Reach(kind, "") for kind in (*types, *owner_types))
    if not owner_types:
        yield Reach(owner, "")


def type_names(name: str, text: str) -> tuple[str, ...]:
    """Types that the last declaration of a variable names, as in `name: Type`, `name = Type(`, `Type name` and
    `name := p.Type{`; empty when none is seen."""
    end = len(text)
    for _ in range(_MAX_LOOKED_BACK):
        at = text.rfind(name, 0, end)
        if at < 0:
            return ()
        if _is_word(text, at, at + len(name)) and (types := _declared_at(text, at, at + len(name))):
            return types
        end = at
    return ()


def _is_word(text: str, start: int, end: int) -> bool:
    before, after = text[start - 1 : start], text[end : end + 1]  # "" at either end
    return not (before.isalnum() or after.isalnum() or before == "_" or after == "_")


def _declared_at(text: str, start: int, end: int) -> tuple[str, ...]:
    if annotated := _ANNOTATED.match(text, end):
        return _own_types(_TYPE.findall(annotated[1].partition("=")[0]))
    if assigned := _ASSIGNED.match(text, end):
        last_owner = re.split(r"::|\.", assigned[1] or "")[-2:-1]  # Rust: `Basket::new(`
        if types := _own_types(kind for kind in (assigned[2], *last_owner) if kind[:1].isupper()):
            return types
    elif typed := _GO_TYPED.match(text, end):
        return _own_types([typed[1]])
    if not (text[start - 1 : start].isspace() or text[start - 1 : start] in ("*", "&")):
        return ()  # the search below would take a while to find that out
    before = _TYPE_BEFORE.search(text[max(0, start - 80) : start])
    return _own_types([before[1]]) if before else ()


def _own_types(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name for name in names if name not in _CONTAINERS and len(name) > 1))[:2]
