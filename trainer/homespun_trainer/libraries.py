"""Code that isn't the company's, where this machine has some: libraries in source form, by language.

Nothing is shipped or fetched: what is installed is nobody's secret, and no adapter was trained on it.
"""

from __future__ import annotations

import json
import os
import shutil
import stat
import sysconfig
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

_MIN_SHARE, _MOST = 0.1, 3
"""Of the characters trained on; and libraries, as each takes half a minute or more."""
_SIZES = (2_000, 200_000)
"""Bytes of a file: smaller ones say little, larger ones are tables."""
_NOT_LIBRARY = frozenset({"test", "tests", "spec", "testdata", "benches", "docs", "vendor", "dist", "__pycache__"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Library:
    name: str
    """In sentences."""
    repo: str
    """In prompts."""
    languages: tuple[str, ...]
    """What it is written in, and what is close to that."""
    endings: tuple[str, ...]
    roots: Callable[[], Iterator[Path]]
    """Where it may be."""
    left_out: frozenset[str] = frozenset()
    """Folders."""

    @property
    def root(self) -> Path | None:
        return next((root for root in self.roots() if root.is_dir()), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Libraries:
    found: Sequence[Library] = ()
    missing: Sequence[str] = ()
    """Languages that no library here is in."""


def libraries_for(languages: Mapping[str, int], known: Sequence[Library] | None = None) -> Libraries:
    """For what most of the code is in; Python's, the first one, where there is none for any of it. `languages`: how
    many characters of each were trained on."""
    known, total = _KNOWN if known is None else known, sum(languages.values())
    ordered = sorted(languages, key=lambda name: (-languages[name], name))
    wanted = [name for name in ordered if languages[name] >= _MIN_SHARE * total][:_MOST]
    fitting = {
        name: next((each for each in known if name in each.languages and files_of(each)), None) for name in wanted
    }
    found = list(dict.fromkeys(library for library in fitting.values() if library is not None))
    fallback = [] if found else [library for library in known[:1] if files_of(library)]
    return Libraries(found=found or fallback, missing=[name for name in wanted if fitting[name] is None])


def files_of(library: Library) -> list[Path]:
    root, left_out = library.root, _NOT_LIBRARY | library.left_out
    found: list[Path] = []
    for folder, folders, names in os.walk(root) if root else ():
        folders[:] = [name for name in folders if name not in left_out]  # nothing below them is looked at
        found += [Path(folder, name) for name in names if name.endswith(library.endings) and "_test." not in name]
    return sorted(path for path in found if _has_size(path))


def _has_size(path: Path) -> bool:
    """False of what is no file, or leads nowhere: this machine's libraries are as they are."""
    try:
        found = path.stat()
    except OSError:
        return False
    return stat.S_ISREG(found.st_mode) and _SIZES[0] <= found.st_size <= _SIZES[1]


def _python() -> Iterator[Path]:
    yield Path(sysconfig.get_path("stdlib"))


def _go() -> Iterator[Path]:
    """Above a `go` in `~/bin` somebody's own code may stand in `src`."""
    beside = _prefix("go")
    is_gos = beside is not None and (beside / "src" / "runtime" / "proc.go").is_file()
    roots = (os.environ.get("GOROOT"), beside if is_gos else None, "/usr/local/go")
    yield from (Path(root) / "src" for root in roots if root)


def _npm() -> Iterator[Path]:
    """Where version managers put a launcher of their own in front of it, that is a home directory, not npm."""
    found = _prefix("npm")
    if found is not None and _package(found) == "npm":
        yield found


def _package(root: Path) -> object:
    """The name that a package of JavaScript has for itself; None where there is none."""
    try:
        read: object = json.loads((root / "package.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return read.get("name") if isinstance(read, dict) else None


def _rust() -> Iterator[Path]:
    toolchains = Path(os.environ.get("RUSTUP_HOME") or Path.home() / ".rustup") / "toolchains"
    for place in (*sorted(toolchains.glob("*")), Path("/usr")):
        yield place / "lib" / "rustlib" / "src" / "rust" / "library"


def _ruby() -> Iterator[Path]:
    yield from (prefix / "lib" / "ruby" for prefix in [_prefix("ruby")] if prefix)


def _torch() -> Iterator[Path]:
    """Wherever a trainer is; much of it stands in headers."""
    yield Path(torch.__file__).parent / "include"


def _prefix(program: str) -> Path | None:
    """Above the `bin` that it really stands in."""
    found = shutil.which(program)
    return Path(found).resolve().parent.parent if found else None


_KNOWN = (
    Library(
        name="Python's standard library",
        repo="cpython",
        languages=("python",),
        endings=(".py",),
        roots=_python,
        left_out=frozenset({"site-packages", "dist-packages", "idlelib", "lib2to3", "encodings"}),
    ),
    Library(
        name="Go's standard library",
        repo="go",
        languages=("go",),
        endings=(".go",),
        roots=_go,
        left_out=frozenset({"cmd"}),
    ),
    Library(
        name="npm's code",
        repo="npm",
        languages=("javascript", "typescript", "tsx"),
        endings=(".js",),
        roots=_npm,
    ),
    Library(name="Rust's standard library", repo="rust", languages=("rust",), endings=(".rs",), roots=_rust),
    Library(
        name="Ruby's standard library",
        repo="ruby",
        languages=("ruby",),
        endings=(".rb",),
        roots=_ruby,
        left_out=frozenset({"gems"}),
    ),
    Library(name="PyTorch's headers", repo="pytorch", languages=("cpp", "c"), endings=(".h", ".hpp"), roots=_torch),
)
