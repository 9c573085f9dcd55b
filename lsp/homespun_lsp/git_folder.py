"""Where git keeps what, for a working tree that may be one of several."""

from __future__ import annotations

from pathlib import Path

from homespun_lsp.plain_files import text_of


def own(root: Path) -> Path:
    """`.git` itself, or where it points: for worktrees and submodules it is a file."""
    dot_git = root / ".git"
    pointer = text_of(dot_git)  # a directory has no text
    return root / pointer.removeprefix("gitdir:").strip() if pointer.startswith("gitdir:") else dot_git


def shared(git_dir: Path) -> Path:
    """Worktrees have a HEAD of their own, and the main repository's branches, configuration and `info`; submodules have
    all of their own."""
    common = text_of(git_dir / "commondir").strip()
    return git_dir / common if common else git_dir
