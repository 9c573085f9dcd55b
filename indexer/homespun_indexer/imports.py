"""What a file imports, read from its text: it may be incomplete, as in an editor, so there is no syntax tree.

Words that start imports are found in the text, and what follows is matched where it stands: time is linear in the
length of the text, whatever it holds. An example of an import in a comment or string counts as one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

_MAX_RUST_CHARS = 200_000
"""Of `use` trees in a file: unfinished ones go on into one another, and would be read again and again."""
_MAX_PLACES = 2_000
"""More in one file than any author writes."""


@dataclass(frozen=True, slots=True)
class Import:
    module: str
    """As written, normalised: `a.b` or `..x` (Python), the specifier (JavaScript), the path (Go), `a.b.C` and for
    wildcards `a.b` (Java), `crate::a::b` (Rust)."""
    name: str
    """The imported name, `default` for a default import of JavaScript; "" for the module itself, "*" for all it has."""
    alias: str = ""
    """The name it has in this file; "" when the same."""

    @property
    def local(self) -> str:
        """What it is called in this file; `a.b` for `import a.b`, "*" for all of a module."""
        return self.alias or self.name or _own_name(self.module)


def in_text(text: str, language: str) -> tuple[Import, ...]:
    """Each once; empty for languages whose imports we don't know."""
    read = _READERS.get(language)
    return tuple(dict.fromkeys(read(text))) if read else ()


def _own_name(module: str) -> str:
    """The name by which a module is used that was imported whole; Go leaves out the version."""
    if "/" in module:
        return re.sub(r"/v\d{1,3}$|\.v\d{1,3}$", "", module[-500:]).rpartition("/")[2]
    return module.rpartition("::")[2]


def _places(text: str, word: str) -> Iterator[int]:
    at = text.find(word)
    for _ in range(_MAX_PLACES):
        if at < 0:
            return
        yield at
        at = text.find(word, at + len(word))


def _lines_with(text: str, *words: str) -> Iterator[int]:
    """Starts of the lines that hold one of the words, each once for each word."""
    for word in words:
        start, previous, seen = 0, 0, -1
        for at in _places(text, word):
            start = text.rfind("\n", previous, at) + 1 or start
            if start != seen:
                yield start
            previous, seen = at, start


_PY_FROM = re.compile(
    r"[ \t]*+from[ \t]++([\w.]++)[ \t]++import\b[ \t]*+(?:\(((?:[^()#]++|#[^\n]*+){0,500}+)|([^\n#;(]{0,5000}+))"
)
_PY_IMPORT = re.compile(r"[ \t]*+import[ \t]++([^\n#;]{1,2000}+)")
_PY_NAME = re.compile(r"\s*+([\w.]++|\*)(?:\s++as\s++(\w++))?\s*+")


def _python(text: str) -> Iterator[Import]:
    text = text.replace("\\\n", " ")
    for start in _lines_with(text, "import"):
        if found := _PY_FROM.match(text, start):
            yield from (Import(found[1], name, alias) for name, alias in _names(found[2] or found[3] or "", "#"))
        elif found := _PY_IMPORT.match(text, start):
            yield from (Import(module, "", alias) for module, alias in _names(found[1], "#"))


def _names(listed: str, comment: str, pattern: re.Pattern[str] = _PY_NAME) -> Iterator[tuple[str, str]]:
    """(name, alias) of `a, b as c`, up to the first thing that isn't a name."""
    if comment in listed:
        listed = re.sub(comment + r"[^\n]*", "", listed)
    for part in listed.split(","):
        found = pattern.fullmatch(part)
        if found:
            yield found[1], found[2] or ""
        elif part.strip():
            return


_JS_CLAUSE = re.compile(
    r"[ \t]*+(import|export)\b([^'\"`;=(){}\n]{0,500}+(?:\{[^{}'\"`;=()]{0,5000}+\}[^'\"`;=(){}]{0,50}+)?)"
    r"['\"]([^'\"\n]{1,500}+)['\"]"
)
_JS_NAME = re.compile(r"\s*+(?:type\s++(?!as\b))?([\w$]++)(?:\s*+(?:\bas\s|:)\s*+([\w$]++))?\s*+")
_JS_DEFAULT = re.compile(r"(?:type\s++(?![,{]))?([\w$]++)")
_JS_WHOLE = re.compile(r"\*\s*+(?:as\s++([\w$]++))?")
_JS_CALL = re.compile(r"\b(?:require|import)\s{0,20}\(\s{0,20}['\"]([^'\"\n]{1,500})['\"]\s{0,20}\)(?:\.([\w$]+))?")
_JS_BOUND = re.compile(r"\b(?:const|let|var|import)\s++(?:([\w$]++)|\{([^{}]*+)\})\s*+=\s*+(?:await\s++)?$")
_MAX_BINDING = 400


def _javascript(text: str) -> Iterator[Import]:
    for start in _lines_with(text, "import", "export"):
        found = _JS_CLAUSE.match(text, start)
        if found:
            yield from _javascript_clause(found[2].strip(), found[3], exported=found[1] == "export")
    for word in ("require", "import"):
        for at in _places(text, word):
            if called := _JS_CALL.match(text, at):
                yield from _javascript_call(text[max(0, at - _MAX_BINDING) : at], called[1], called[2] or "")


def _javascript_clause(clause: str, module: str, *, exported: bool) -> Iterator[Import]:
    """`A, {B as C, type D} from`, `* as ns from`; nothing: imported for what it does."""
    if not clause and not exported:
        yield Import(module, "")
    if not clause.endswith("from"):
        return
    names = clause.removesuffix("from")
    before, _, braced = names.partition("{")
    if whole := _JS_WHOLE.search(before):
        yield Import(module, "", whole[1]) if whole[1] else Import(module, "*")
    if not exported and (default := _JS_DEFAULT.match(before.strip())) and (default[1] != "type" or not braced):
        yield Import(module, "default", default[1])
    yield from (Import(module, name, alias) for name, alias in _names(braced.partition("}")[0], "//", _JS_NAME))


def _javascript_call(before: str, module: str, member: str) -> Iterator[Import]:
    """`const x = require('m')`, `const {a, b: c} = require('m')`, `const x = require('m').y`."""
    line = before.rpartition("\n")[2]
    bound = _JS_BOUND.search(before) if line.rstrip().endswith(("=", "await")) else None
    if bound is None:
        yield Import(module, member)
    elif bound[1]:
        yield Import(module, member, "" if bound[1] == member else bound[1])
    else:
        yield from (Import(module, name, alias) for name, alias in _names(bound[2], "//", _JS_NAME))


_GO_IMPORT = re.compile(r"import\b[ \t]*+(\(?)")
_GO_PACKAGE = re.compile(r"[ \t(]*+(?:([\w.]++)[ \t]++)?[\"`]([^\"`\n]{1,500}+)[\"`]")


def _go(text: str) -> Iterator[Import]:
    for start in _lines_with(text, "import"):
        found = _GO_IMPORT.match(text, start)
        for line in _go_lines(text, found.end(), grouped=bool(found[1])) if found else ():
            if package := _GO_PACKAGE.match(line):
                alias = package[1] or ""
                yield Import(package[2], "*") if alias == "." else Import(package[2], "", alias)


def _go_lines(text: str, start: int, *, grouped: bool) -> Iterator[str]:
    """The lines of one import: up to the closing bracket, or to the first that is neither package nor comment."""
    for _ in range(_MAX_PLACES if grouped else 1):
        end = text.find("\n", start)
        line = text[start : end if end >= 0 else len(text)]
        if line.strip() and not line.lstrip().startswith(("//", "/*")) and not _GO_PACKAGE.match(line):
            return
        yield line
        if end < 0:
            return
        start = end + 1


_JAVA_IMPORT = re.compile(r"[ \t]*+import[ \t]++(static[ \t]++)?(\w[\w.]*+)(\*?)")


def _java(text: str) -> Iterator[Import]:
    for start in _lines_with(text, "import"):
        found = _JAVA_IMPORT.match(text, start)
        if not found:
            continue
        path = found[2].rstrip(".")
        owner, _, name = path.rpartition(".")
        if found[3]:
            yield Import(path, "*")
        elif owner:
            yield Import(owner if found[1] else path, name)


_RUST_USE = re.compile(r"[ \t]*+(?:pub(?:\([^()\n]{0,200}\))?[ \t]++)?(use|mod)[ \t]++([^;]{1,5000}+)(;?)")
_MAX_DEPTH = 60
_RUST_TOKEN = re.compile(r"\s*+(?:(//[^\n]*+)|(r#)?(\w++)|(::|[{},*]))")


def _rust(text: str) -> Iterator[Import]:
    """`mod x;` counts as an import of `self::x`."""
    room = _MAX_RUST_CHARS
    for start in _lines_with(text, "use ", "mod "):
        found = _RUST_USE.match(text, start)
        if found and found[1] == "use":
            if (room := room - len(found[2])) < 0:
                return
            yield from _rust_tree(found[2])
        elif found and found[3] and found[2].strip().isidentifier():
            yield Import(f"self::{found[2].strip()}", "")


def _rust_tree(tree: str) -> Iterator[Import]:
    """`a::{b, c::{d, self}, e as f, *}`, up to the first thing that isn't part of one."""
    around: list[tuple[str, ...]] = []
    outer: tuple[str, ...] = ()
    path, alias, before = outer, "", ","
    for token in _rust_tokens(tree):
        if token == "{":
            around.append(outer)
            outer = path
        elif token in (",", "}"):
            yield from _rust_leaf(path, outer, alias)
            outer = outer if token == "," else around.pop() if around else ()
            path, alias = outer, ""
        elif before == "as":
            alias = token
        elif token not in ("::", "as"):
            if before not in ("::", "{", ",") or len(path) > _MAX_DEPTH:
                break
            path = (*path, token)
        before = token
    yield from _rust_leaf(path, outer, alias)


def _rust_tokens(tree: str) -> Iterator[str]:
    at = 0
    while found := _RUST_TOKEN.match(tree, at):
        at = found.end()
        if token := found[3] or found[4]:
            yield token


def _rust_leaf(path: tuple[str, ...], outer: tuple[str, ...], alias: str) -> Iterator[Import]:
    if len(path) <= len(outer):
        return
    *owners, name = path
    if name == "self" and owners:
        *_, name = owners
        yield Import("::".join(owners), "", alias)
    elif owners:
        yield Import("::".join(owners), name, alias)
    else:
        yield Import(name, "", alias)


_READERS: dict[str, Callable[[str], Iterable[Import]]] = {
    "python": _python,
    "javascript": _javascript,
    "typescript": _javascript,
    "tsx": _javascript,
    "go": _go,
    "java": _java,
    "rust": _rust,
}
