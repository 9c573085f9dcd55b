"""The commit a working tree stands at, read from git's files: git isn't run in a repository that may be hostile."""

from __future__ import annotations

import re
from pathlib import Path

from homespun_lsp import git_folder
from homespun_lsp.plain_files import text_of

_COMMIT = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")
_REF = re.compile(r"ref: (refs/[^\s\\:?*\[~^]+)")


def commit_of(root: Path) -> str | None:
    """None before the first commit, and where references are kept in another form than files (reftable)."""
    git_dir = git_folder.own(root)
    head = text_of(git_dir / "HEAD").strip()
    if ref := _REF.fullmatch(head):
        if ".." in ref[1]:
            return None
        shared = git_folder.shared(git_dir)
        head = text_of(shared / ref[1]).strip() or _packed(text_of(shared / "packed-refs"), ref[1])
    return head if _COMMIT.fullmatch(head) else None


def _packed(text: str, ref: str) -> str:
    return next((line.split(" ")[0] for line in text.splitlines() if line.endswith(f" {ref}")), "")
