"""How much room a repository takes."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from homespun_core.paths import DataDir


def disk_bytes(data: DataDir, repo: str) -> Mapping[str, int]:
    """By what it is for. Generations share segments as hard links, which count once."""
    places = {"index": data.index(repo), "clone": data.clone(repo), "adapters": data.adapters(repo)}
    return {what: size for what, place in places.items() if (size := _size(place))}


def _size(place: Path) -> int:
    return sum({(s.st_dev, s.st_ino): s.st_size for s in _files(place)}.values())


def _files(place: Path) -> Iterator[os.stat_result]:
    """What goes away meanwhile isn't counted."""
    for folder, _, names in os.walk(place):
        for name in names:
            try:
                yield os.lstat(os.path.join(folder, name))  # noqa: PTH118  # a Path for each file takes twice as long
            except OSError:
                continue
