"""A copy of a data directory's files at one moment, while servers, workers and people go on changing it.

Snapshots are immutable, so they are hard-linked: that takes no time and no space, and what is deleted meanwhile stays.
What names them (`CURRENT`, `ALIASES.json`) is read before and after; if it changed between, the copy is made again.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from homespun_core import registry, storage
from homespun_core.errors import BusyError
from homespun_core.paths import DataDir
from homespun_server.backup.contents import FILES, belongs

_POINTERS = (storage.CURRENT, registry.ALIASES)
_TRIES = 20


def stage(data: DataDir, target: Path, folders: Sequence[str]) -> None:
    """Raises BusyError when a folder changes all the time."""
    for folder in folders:
        if (data.root / folder).is_dir():
            _at_one_moment(data.root / folder, target / folder)
    for name in FILES:
        if (data.root / name).is_file():
            shutil.copyfile(data.root / name, target / name)


def _at_one_moment(source: Path, target: Path) -> None:
    for _ in range(_TRIES):
        try:
            before = _pointers(source)
            _take(source, target, immutable=False)
            if _pointers(source) == before:
                return
        except FileNotFoundError:  # an old snapshot was deleted while it was read
            pass
        shutil.rmtree(target, ignore_errors=True)
    raise BusyError(f"{source}: changed {_TRIES} times while it was copied; run the same command again")


def _pointers(source: Path) -> Mapping[Path, bytes]:
    return {path: path.read_bytes() for name in _POINTERS for path in source.rglob(name)}


def _take(source: Path, target: Path, *, immutable: bool) -> None:
    immutable = immutable or (source / storage.MANIFEST).is_file()
    target.mkdir()
    for entry in sorted(source.iterdir()):
        if not belongs(entry.name) or entry.is_symlink():
            continue
        if entry.is_dir():
            _take(entry, target / entry.name, immutable=immutable)
        elif immutable:
            storage.link(entry, target / entry.name)
        else:
            shutil.copyfile(entry, target / entry.name)
