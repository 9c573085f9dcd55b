"""Small files of a repository that may be hostile."""

from __future__ import annotations

from pathlib import Path

_MAX_BYTES = 4_000_000
"""packed-refs of a repository with tens of thousands of branches has as much."""


def text_of(path: Path) -> str:
    """Empty where there is none. Of a plain file only: a pipe in its place would never end."""
    try:
        if not path.is_file():
            return ""
        with path.open("rb") as file:
            return file.read(_MAX_BYTES).decode("utf-8", "replace")
    except (OSError, ValueError):  # a NUL in a path that the repository names
        return ""
