"""Which files a repository ignores, from its ignore files alone: git isn't run in a repository that may be hostile, and
a keystroke never waits for the disk."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from homespun_core.patterns import IGNORE_FILE, is_ignored, parse_ignore
from homespun_lsp.repository import Repositories

By = Literal["git", "homespun"]
"""Whose ignore files say so: `homespun` is what the company keeps out of completion, `git` what is no part of the
repository."""

_FRESH_S = 10.0
_MAX_BYTES = 500_000
_MAX_FILES = 500


@dataclass(frozen=True, slots=True)
class _Verdict:
    by: By | None
    at: float


class Ignored:
    def __init__(self, repositories: Repositories) -> None:
        self._repositories = repositories
        self._verdicts: dict[Path, _Verdict] = {}
        self._looking: dict[Path, asyncio.Task[By | None]] = {}

    async def by(self, file: Path) -> By | None:
        """Waits for the disk the first time; afterwards the last verdict counts until a newer one is there."""
        verdict = self._verdicts.get(file)
        if verdict is None or time.monotonic() - verdict.at > _FRESH_S:
            looking = self._looking.get(file) or self._look(file)
            if verdict is None:
                return await asyncio.shield(looking)
        return verdict.by if verdict else None

    def _look(self, file: Path) -> asyncio.Task[By | None]:
        task = self._looking[file] = asyncio.create_task(self._judge(file))
        return task

    async def _judge(self, file: Path) -> By | None:
        try:
            by = await asyncio.to_thread(self._read, file)
        finally:
            self._looking.pop(file, None)
        if len(self._verdicts) >= _MAX_FILES:
            self._verdicts.clear()
        self._verdicts[file] = _Verdict(by, time.monotonic())
        return by

    def _read(self, file: Path) -> By | None:
        repository = self._repositories.of(file)
        return ignored_by(file, repository.root) if repository else None


def ignored_by(file: Path, root: Path) -> By | None:
    """`file` lies somewhere below `root`, a repository's."""
    path = file.relative_to(root).as_posix()
    if is_ignored(path, parse_ignore(_text(root / IGNORE_FILE))):
        return "homespun"
    patterns = parse_ignore(_text(root / ".git" / "info" / "exclude"))
    for base in _folders(path):
        patterns += parse_ignore(_text(root / base / ".gitignore"), base)
    return "git" if is_ignored(path, patterns) else None


def _folders(path: str) -> Iterator[str]:
    """Those that hold it, outermost first: what a deeper ignore file says counts more."""
    yield ""
    names = path.split("/")[:-1]
    yield from ("/".join(names[: i + 1]) for i in range(len(names)))


def _text(path: Path) -> str:
    """Of a plain file; a pipe in its place would never end."""
    try:
        if not path.is_file():
            return ""
        with path.open("rb") as file:
            return file.read(_MAX_BYTES).decode("utf-8", "replace")
    except OSError:
        return ""
