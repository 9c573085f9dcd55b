"""Which files of a repository an import means, from their paths alone: no build file is read, nothing outside is known.

Where the source roots are is guessed from what fits; an import that fits nothing is taken for a third party's.
"""

from __future__ import annotations

import posixpath
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property, lru_cache, partial

from homespun_indexer.imports import Import

_JS_ENDINGS = (".ts", ".tsx", ".d.ts", ".js", ".jsx", ".mjs", ".cjs", ".mts", ".cts", ".vue", ".svelte")
_JS_OUTPUT = re.compile(r"\.[mc]?jsx?$")
_JS_WORKSPACES = frozenset({"packages", "apps", "libs", "modules", "services"})
_GO_STANDARD = (
    " archive bufio builtin bytes cmp compress container context crypto database debug embed encoding errors expvar"
    " flag fmt go hash html image index io iter log maps math mime net os path plugin reflect regexp runtime slices"
    " sort strconv strings structs sync syscall testing text time unicode unique unsafe "
)
_EVERYWHERE = ("__init__.", "index.", "mod.rs", "lib.rs")
_FOLDERS_KEPT = 256
_RUST_ROOTS = ("lib.rs", "main.rs", "mod.rs")


class Resolver:
    """For one snapshot of a repository. Tables are made when first needed; safe for concurrent reading."""

    def __init__(self, paths: Iterable[str]) -> None:
        self.paths = frozenset(paths)

    def files_of(self, imported: Import, from_path: str, language: str) -> tuple[str, ...]:
        """What the import may mean, best first; empty when it is a third party's."""
        find = _FINDERS.get(language)
        return tuple(dict.fromkeys(find(self, imported, from_path))) if find else ()

    def neighbours(self, from_path: str, language: str) -> tuple[str, ...]:
        """Other files whose top-level names are visible without an import."""
        if language == "go":
            return tuple(p for p in self.in_folder(posixpath.dirname(from_path), ".go") if p != from_path)
        if language == "java":
            return tuple(p for p in self.in_folder(posixpath.dirname(from_path), ".java") if p != from_path)
        return ()

    def existing(self, paths: Iterable[str]) -> list[str]:
        return [path for path in paths if path in self.paths]

    @cached_property
    def in_folder(self) -> Callable[[str, str], Sequence[str]]:
        """Files right in a folder that end in something, Go's tests left out. Remembered: the next key asks again."""
        return lru_cache(_FOLDERS_KEPT)(partial(_in_folder, self._folders))

    def ending_with(self, suffix: str, from_path: str) -> list[str]:
        """Paths that are `suffix` below any folder, those nearest to `from_path` first."""
        found = [p for p in self._by_name.get(_key(suffix), ()) if p == suffix or p.endswith("/" + suffix)]
        return sorted(found, key=lambda path: _distance(path, from_path))

    def folders_ending_with(self, suffix: str, from_path: str) -> list[str]:
        found = [f for f in self._folders_by_name.get(_key(suffix), ()) if f == suffix or f.endswith("/" + suffix)]
        return sorted(found, key=lambda folder: _distance(folder, from_path))

    @cached_property
    def _by_name(self) -> dict[str, list[str]]:
        return _by_key(self.paths)

    @cached_property
    def _folders(self) -> dict[str, list[str]]:
        folders: dict[str, list[str]] = {}
        for path in sorted(self.paths):
            folders.setdefault(path.rpartition("/")[0], []).append(path)
        return folders

    @cached_property
    def _folders_by_name(self) -> dict[str, list[str]]:
        return _by_key(self._folders)

    @cached_property
    def packages(self) -> dict[str, list[str]]:
        """Folders of JavaScript packages by name: those with a `package.json` or in a workspace folder."""
        folders = {path.rpartition("/")[0] for path in self.paths if path.endswith("/package.json")}
        for path in self.paths:
            parts = path.split("/", 2)
            if len(parts) == 3 and parts[0] in _JS_WORKSPACES:
                folders.add(f"{parts[0]}/{parts[1]}")
        found: dict[str, list[str]] = {}
        for folder in sorted(folders - {""}):
            found.setdefault(posixpath.basename(folder), []).append(folder)
        return found

    @cached_property
    def crates(self) -> dict[str, str]:
        """Source folder by name of the crate, `-` written `_`."""
        sources = (posixpath.dirname(path) for path in sorted(self._by_name.get("src/lib.rs", ())))
        return {posixpath.basename(posixpath.dirname(folder)).replace("-", "_"): folder for folder in sources}


def _in_folder(folders: Mapping[str, Sequence[str]], folder: str, ending: str) -> Sequence[str]:
    paths = folders.get(folder, ())
    return tuple(path for path in paths if path.endswith(ending) and not path.endswith("_test.go"))


def _key(path: str) -> str:
    """The last part; the last two where every folder may have a file of that name."""
    name = path[path.rfind("/") + 1 :]
    return "/".join(path.rsplit("/", 2)[-2:]) if name.startswith(_EVERYWHERE) else name


def _by_key(paths: Iterable[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for path in paths:
        found.setdefault(_key(path), []).append(path)
    return found


def _distance(path: str, from_path: str) -> tuple[int, int, str]:
    """Less for more folders in common, then for a shorter path."""
    common = 0
    for mine, theirs in zip(path.split("/"), from_path.split("/"), strict=False):
        if mine != theirs:
            break
        common += 1
    return -common, path.count("/"), path


def _python(resolver: Resolver, imported: Import, from_path: str) -> Iterator[str]:
    """`from a import b` may mean `a/b.py` as well as `b` in `a.py`."""
    module = imported.module.lstrip(".")
    dots = len(imported.module) - len(module)
    stem = module.replace(".", "/")
    if dots:
        folder = from_path
        for _ in range(dots):
            folder = posixpath.dirname(folder)
        stem = posixpath.join(folder, stem).rstrip("/")
    stems = [stem] if imported.name in ("", "*") else [posixpath.join(stem, imported.name), stem]
    candidates = [path for s in stems for path in (f"{s}.py", f"{s}/__init__.py", f"{s}.pyi")]
    if dots:
        yield from resolver.existing(c.lstrip("/") for c in candidates)
    elif module.partition(".")[0] not in sys.stdlib_module_names:
        for candidate in candidates:
            yield from (p for p in resolver.ending_with(candidate, from_path) if _is_below_root(resolver, p, candidate))


def _is_below_root(resolver: Resolver, path: str, suffix: str) -> bool:
    """A folder with `__init__.py` is a package, so no source root."""
    root = path.removesuffix(suffix)
    return not root or not resolver.existing([f"{root}__init__.py"])


def _javascript(resolver: Resolver, imported: Import, from_path: str) -> Iterator[str]:
    module = imported.module
    if module.startswith("."):
        stem = posixpath.normpath(posixpath.join(posixpath.dirname(from_path), module))
        yield from resolver.existing(_javascript_files(stem))
    elif module.startswith(("@/", "~/", "#/", "/", "~")):
        yield from _below_any(resolver, module.lstrip("@~#/"), from_path)
    else:
        yield from _javascript_package(resolver, module, from_path)


def _javascript_files(stem: str) -> list[str]:
    """`x.js` in TypeScript means `x.ts`."""
    source = _JS_OUTPUT.sub("", stem)
    stems = [source, stem] if source != stem else [stem]
    plain = [s + ending for s in stems for ending in _JS_ENDINGS]
    return [stem, *plain, *(f"{stem}/index{ending}".removeprefix("./") for ending in _JS_ENDINGS)]


def _below_any(resolver: Resolver, stem: str, from_path: str) -> Iterator[str]:
    for candidate in _javascript_files(stem) if stem else ():
        yield from resolver.ending_with(candidate, from_path)


def _javascript_package(resolver: Resolver, module: str, from_path: str) -> Iterator[str]:
    """A package of this repository (`@shop/prices/tax`), or a path below a base folder (`components/Button`)."""
    scoped = module.startswith("@")
    name, _, rest = (module.partition("/")[2] if scoped else module).partition("/")
    roots = resolver.packages.get(name, [])
    for root in roots:
        stems = [f"{root}/src/{rest or 'index'}", f"{root}/{rest or 'index'}"]
        yield from resolver.existing(path for stem in stems for path in _javascript_files(stem))
    if rest and not scoped and not roots:
        found = list(_below_any(resolver, module, from_path))
        yield from found if len(found) == 1 else ()


def _go(resolver: Resolver, imported: Import, from_path: str) -> Iterator[str]:
    """The longest end of the path that is a folder; a single part counts only next to a folder around `from_path`."""
    parts = imported.module.split("/")
    if f" {parts[0]} " in _GO_STANDARD:
        return
    for start in range(len(parts)):
        folders = resolver.folders_ending_with("/".join(parts[start:]), from_path)
        if start == len(parts) - 1 and start:
            folders = [f for f in folders if _is_around(posixpath.dirname(f), from_path)]
        files = [path for folder in folders[:1] for path in resolver.in_folder(folder, ".go")]
        if files:
            yield from files
            return


def _is_around(folder: str, path: str) -> bool:
    return not folder or path.startswith(folder + "/")


def _java(resolver: Resolver, imported: Import, from_path: str) -> Iterator[str]:
    """Nested classes are in the file of the outermost."""
    parts = imported.module.split(".")
    if imported.name == "*":
        folders = resolver.folders_ending_with("/".join(parts), from_path)
        files = [path for folder in folders for path in resolver.in_folder(folder, ".java")]
        if files:
            yield from files
            return
    for end in range(len(parts), 1, -1):
        found = resolver.ending_with("/".join(parts[:end]) + ".java", from_path)
        if found:
            yield from found
            return


def _rust(resolver: Resolver, imported: Import, from_path: str) -> Iterator[str]:
    first, *rest = [*imported.module.split("::"), *([imported.name] if imported.name not in ("", "*") else [])]
    crate, here = _rust_module(from_path)
    if first == "crate":
        yield from _rust_files(resolver, crate, rest)
    elif first == "self":
        yield from _rust_files(resolver, crate, [*here, *rest])
    elif first == "super":
        ups = 1
        while rest and rest[0] == "super":
            ups, rest = ups + 1, rest[1:]
        yield from _rust_files(resolver, crate, [*here[:-ups], *rest])
    elif first in resolver.crates:
        yield from _rust_files(resolver, resolver.crates[first], rest)
    elif beside := [*here, first]:
        stem = posixpath.join(crate, *beside)
        if resolver.existing([f"{stem}.rs", f"{stem}/mod.rs"]):
            yield from _rust_files(resolver, crate, [*beside, *rest])


def _rust_module(path: str) -> tuple[str, list[str]]:
    """(source folder of the crate, module path in it) of a file: the nearest `src` around it, or else its folder."""
    folders = posixpath.dirname(path).split("/")
    depth = len(folders) - folders[::-1].index("src") if "src" in folders else len(folders)
    name = posixpath.basename(path)
    own = [] if name in _RUST_ROOTS else [name.removesuffix(".rs")]
    return "/".join(folders[:depth]), [*folders[depth:], *own]


def _rust_files(resolver: Resolver, crate: str, parts: Sequence[str]) -> list[str]:
    """The innermost module that is a file: the last parts may be names in it."""
    for end in range(len(parts), 0, -1):
        stem = posixpath.join(crate, *parts[:end])
        if found := resolver.existing([f"{stem}.rs", f"{stem}/mod.rs"]):
            return found
    return resolver.existing(posixpath.join(crate, root) for root in _RUST_ROOTS)


_FINDERS: dict[str, Callable[[Resolver, Import, str], Iterable[str]]] = {
    "python": _python,
    "javascript": _javascript,
    "typescript": _javascript,
    "tsx": _javascript,
    "go": _go,
    "java": _java,
    "rust": _rust,
}
