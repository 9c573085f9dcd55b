"""Which files a repository ignores, from its ignore files alone: git isn't run in one that may be hostile."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from homespun_core.patterns import IGNORE_FILE, is_ignored, parse_ignore
from homespun_lsp import git_config, git_folder
from homespun_lsp.plain_files import text_of

By = Literal["git", "homespun"]
"""Whose ignore files say so: `homespun` is what the company keeps out of completion, `git` what is no part of the
repository."""


def ignored_by(file: Path, root: Path) -> By | None:
    """`file` lies somewhere below `root`, a repository's."""
    path = file.relative_to(root).as_posix()
    if is_ignored(path, parse_ignore(text_of(root / IGNORE_FILE))):
        return "homespun"
    shared = git_folder.shared(git_folder.own(root))
    patterns = parse_ignore(text_of(users_own(shared / "config")))
    patterns += parse_ignore(text_of(shared / "info" / "exclude"))
    for base in _folders(path):
        patterns += parse_ignore(text_of(root / base / ".gitignore"), base)
    return "git" if is_ignored(path, patterns) else None


def users_own(config: Path) -> Path:
    """The file of a person's own patterns for all repositories. A repository's configuration can name another."""
    named = git_config.value([*git_config.user_files(), config], "core.excludesfile")
    return git_config.user_folder() / "ignore" if named is None else git_config.expanded(named)


def _folders(path: str) -> Iterator[str]:
    """Those that hold it, outermost first: what a deeper ignore file says counts more."""
    yield ""
    names = path.split("/")[:-1]
    yield from ("/".join(names[: i + 1]) for i in range(len(names)))
