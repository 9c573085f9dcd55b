"""Files of a working tree, read without running anything the repository configures and without leaving the tree.

`git status` and `git diff` would run its clean filters; `ls-files` compares nothing, so we list with it and compare
ourselves.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from homespun_core.errors import RepositoryError
from homespun_indexer.git import Git, GitFailed

_UNREADABLE = (errno.EACCES, errno.EPERM, errno.EIO, errno.ESTALE)
"""It may well be there."""


@dataclass(frozen=True, slots=True)
class Listed:
    path: str
    is_sparse: bool
    """Tracked, but deliberately not in the working tree (sparse checkout)."""


@dataclass(frozen=True, slots=True)
class Read:
    size: int
    content: bytes | None
    """None when it is too large, or can't be read."""
    is_readable: bool = True


def list_paths(git: Git) -> list[Listed]:
    """Tracked files, and untracked ones that aren't ignored. Some may not exist any more."""
    try:
        listing = git.output("ls-files", "-z", "-t", "--cached", "--others", "--exclude-standard", "--full-name")
    except GitFailed as error:
        raise RepositoryError(
            f"{git.work_tree}: the files can't be listed ({error.reason});"
            f" if it is the index that is damaged, delete {git.git_dir}/index and run `git reset`"
        ) from error
    found: dict[str, Listed] = {}
    for line in filter(None, listing.split(b"\0")):
        tag, _, path = line.decode("utf-8", "replace").partition(" ")
        if not path.endswith("/"):  # another repository inside this one
            found.setdefault(path, Listed(path, is_sparse=tag == "S"))
    return list(found.values())


def state(root: Path, path: str) -> tuple[int, ...] | None:
    """Changes whenever the file does, as far as its file system tells; the last two numbers are times in nanoseconds.
    None when it is gone."""
    try:
        info = os.lstat(f"{root}/{path}")
    except OSError:
        return None
    return info.st_dev, info.st_ino, info.st_size, info.st_mtime_ns, info.st_ctime_ns


def read_file(root: Path, path: str, max_bytes: int) -> Read | None:
    """A regular file, and its bytes if they aren't too many; None when it is gone or reached through a symbolic link
    anywhere on the way."""
    try:
        for descriptor in _opened(root, path):
            info = os.fstat(descriptor)
            if not stat.S_ISREG(info.st_mode):
                return None
            if info.st_size > max_bytes:
                return Read(info.st_size, None)
            with os.fdopen(os.dup(descriptor), "rb") as handle:
                content = handle.read(max_bytes)
                return Read(len(content), content)
    except OSError as error:
        return Read(0, None, is_readable=False) if error.errno in _UNREADABLE else None
    return None


def _opened(root: Path, path: str) -> Iterator[int]:
    """One descriptor of the file, reached folder by folder without following links (openat with O_NOFOLLOW)."""
    *folders, name = path.split("/")
    here = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for folder in folders:
            inner = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=here)
            os.close(here)
            here = inner
        # O_NONBLOCK: opening a named pipe must not wait for a writer.
        file = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=here)
        try:
            yield file
        finally:
            os.close(file)
    finally:
        os.close(here)
