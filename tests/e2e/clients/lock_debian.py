"""Pins the Debian packages of what tests drive: `python tests/e2e/clients/lock_debian.py` renews the pins.

Versions in sid move on, and what they replace leaves the mirrors; snapshot.debian.org keeps it.
"""

from __future__ import annotations

import json
import lzma
import re
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path

MIRROR = "http://deb.debian.org/debian"
WANTED = {
    "neovim-0.12": ("sid", ["neovim"]),
    "neovim-0.10": ("trixie", ["neovim"]),
    "emacs-30": ("sid", ["emacs-nox", "elpa-lsp-mode"]),
    "helix-25": ("trixie", ["hx"]),
    "llama.cpp": ("sid", ["llama.cpp-tools"]),
}
UNNEEDED = {
    "binutils",
    "cdebconf",
    "debconf",
    "dpkg",
    "emacsen-common",
    "install-info",
    "init-system-helpers",
    "libc6-dev",
    "libgcc-15-dev",
    "perl-base",
    "python3",
    "tar",
    "wget",
}
"""Tools of an installation, which nothing here is: packages are unpacked into a folder."""

Package = Mapping[str, str]


def lock() -> dict[str, object]:
    indexes = {suite: _packages(suite) for suite, _ in WANTED.values()}
    return {name: _pins(indexes[suite], roots) for name, (suite, roots) in WANTED.items()}


def _packages(suite: str) -> dict[str, Package]:
    with urllib.request.urlopen(f"{MIRROR}/dists/{suite}/main/binary-amd64/Packages.xz", timeout=60) as response:
        text = lzma.decompress(response.read()).decode()
    found = (dict(re.findall(r"^([\w-]+): (.*)$", entry, re.MULTILINE)) for entry in text.split("\n\n"))
    return {package["Package"]: package for package in found if package}


def _pins(packages: Mapping[str, Package], roots: list[str]) -> list[dict[str, str]]:
    chosen = [packages[name] for name in sorted(_closure(packages, roots))]
    return [{"path": package["Filename"], "sha256": package["SHA256"]} for package in chosen]


def _closure(packages: Mapping[str, Package], roots: list[str]) -> set[str]:
    found: set[str] = set()
    todo = list(roots)
    while todo:
        name = todo.pop()
        if name not in found:
            found.add(name)
            todo.extend(_dependencies(packages, packages[name]))
    return found


def _dependencies(packages: Mapping[str, Package], package: Package) -> Iterator[str]:
    """The first alternative of each that is a real package."""
    for alternatives in re.split(r",\s*", f"{package.get('Depends', '')}, {package.get('Pre-Depends', '')}"):
        names = [re.split(r"[\s:(]", one.strip())[0] for one in alternatives.split("|")]
        real = [name for name in names if name in packages]
        if real and not UNNEEDED & set(names):
            yield real[0]


if __name__ == "__main__":
    Path(__file__).with_name("debian.json").write_text(json.dumps(lock(), indent=1) + "\n")
