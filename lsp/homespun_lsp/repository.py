"""Which repository a file belongs to, read from plain files: no git command, no library."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from homespun_lsp import git_config, git_folder
from homespun_lsp.plain_files import text_of

_FRESH_S = 10.0
_USERINFO = re.compile(r"^([a-z][a-z0-9+.-]*://)[^/]*@", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Repository:
    root: Path
    name: str
    """URL of the remote `origin` without user and password, or the name of the root directory."""


class Repositories:
    """Remembers for a while what it found: a keystroke must not walk the disk."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._since = clock()
        self._of_directory: dict[Path, tuple[Repository | None, Path]] = {}

    def of(self, file: Path) -> Repository | None:
        return self._looked_at(file.parent)[0]

    def real(self, file: Path) -> Path:
        """Where it lies when links to its directory are followed."""
        return self._looked_at(file.parent)[1] / file.name

    def _looked_at(self, directory: Path) -> tuple[Repository | None, Path]:
        if self._clock() - self._since > _FRESH_S:  # a repository may have come, or another remote
            self._of_directory, self._since = {}, self._clock()
        known = self._of_directory  # asked from threads too
        if directory not in known:
            known[directory] = find(directory), real(directory)
        return known[directory]


def real(directory: Path) -> Path:
    try:
        return Path(os.path.realpath(directory))
    except ValueError:  # a NUL in it
        return directory


def find(directory: Path) -> Repository | None:
    """The repository whose working tree holds `directory`; None when there is none or it can't be read."""
    for root in (directory, *directory.parents):
        if (git_dir := _git_dir(root)) is not None:
            return Repository(root, _origin(git_folder.shared(git_dir) / "config") or root.name)
    return None


def _git_dir(root: Path) -> Path | None:
    git_dir = git_folder.own(root)
    return git_dir if git_dir != root / ".git" or git_dir.is_dir() else None


def _origin(config: Path) -> str | None:
    """Without what it includes, which git would follow: an address is looked for at the first key, and found there."""
    url = next((text for name, text in git_config.parsed(text_of(config)) if name == "remote.origin.url"), None)
    return _USERINFO.sub(r"\1", url) if url else None
