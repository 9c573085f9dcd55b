"""The commit a working tree stands at, read from git's files: git isn't run in a repository that may be hostile."""

from __future__ import annotations

import re
from pathlib import Path

from homespun_lsp.plain_files import text_of

_COMMIT = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")
_REF = re.compile(r"ref: (refs/[^\s\\:?*\[~^]+)")


def commit_of(root: Path) -> str | None:
    """None before the first commit, and where references are kept in another form than files (reftable)."""
    git_dir = _git_dir(root / ".git")
    head = text_of(git_dir / "HEAD").strip()
    if ref := _REF.fullmatch(head):
        if ".." in ref[1]:
            return None
        shared = _shared(git_dir)
        head = text_of(shared / ref[1]).strip() or _packed(text_of(shared / "packed-refs"), ref[1])
    return head if _COMMIT.fullmatch(head) else None


def _git_dir(dot_git: Path) -> Path:
    pointer = text_of(dot_git)  # of a worktree or a submodule; a directory has no text
    return dot_git.parent / pointer.removeprefix("gitdir:").strip() if pointer.startswith("gitdir:") else dot_git


def _shared(git_dir: Path) -> Path:
    """Worktrees have a HEAD of their own, and the main repository's branches."""
    common = text_of(git_dir / "commondir").strip()
    return git_dir / common if common else git_dir


def _packed(text: str, ref: str) -> str:
    return next((line.split(" ")[0] for line in text.splitlines() if line.endswith(f" {ref}")), "")
