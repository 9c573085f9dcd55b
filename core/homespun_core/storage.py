"""Immutable snapshots on disk, published by rename, and the pointers that name the current one.

A snapshot is a directory with a `manifest.json`. It is written under a temporary name, fsynced and renamed, so a
reader sees all of it or nothing, and a process killed at any moment leaves at most a `.tmp-*` directory that the next
writer sweeps away.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import secrets
import shutil
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO

from homespun_core import fences
from homespun_core.errors import FULL_DISK, BusyError, StorageError

MANIFEST = "manifest.json"
CURRENT = "CURRENT"
TMP_PREFIX = ".tmp-"
_LOOK_S = 0.05
_SURELY_DEAD_S = 86_400.0
"""Nothing is written for a day without a file more."""
_FULL_BELOW = 16 << 20
"""With less free space than this, a write that failed for no stated reason failed for want of space."""


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What a snapshot is: enough to know whether it can be used, reused or must be built again."""

    kind: str
    """`index`, `corpus`, `adapter` or `filter`."""
    format_version: int
    fingerprint: str
    """Digest of the options and inputs that shaped the bytes; equal fingerprints mean equal content."""
    sources: Mapping[str, str]
    """Where it came from: repository, commit, base model, corpus."""
    info: Mapping[str, object] = field(default_factory=dict)
    """Counts and facts for people; nothing depends on them."""
    files: Mapping[str, str] = field(default_factory=dict)
    """Relative path -> SHA-256, filled in at publication."""
    created: str = ""
    """UTC, ISO 8601, filled in at publication."""


def fingerprint(*parts: object) -> str:
    """SHA-256 over a JSON rendering of the parts: 32 hex digits. Parts must be JSON values."""
    text = json.dumps(parts, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def write_bytes(path: Path, data: bytes) -> None:
    """A new file, whole and on disk when this returns. Every file of a snapshot is written here."""
    with path.open("xb", buffering=0) as handle:
        view = memoryview(data)
        while view:
            view = view[handle.write(view) :]
        os.fsync(handle.fileno())


def file_digest(path: Path) -> str:
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


@contextmanager
def publish_dir(
    final: Path, manifest: Manifest | Callable[[], Manifest], known: Mapping[str, str] | None = None
) -> Iterator[Path]:
    """Yield a temporary directory to fill; on success it becomes `final`, with its manifest (asked for after the block
    if it is a function). `known` are digests, filled in the block, of linked files, which are not read again.

    When `final` appeared meanwhile (another process built the same thing) ours is dropped: equal names mean equal
    content. An exception inside the block leaves nothing behind.
    """
    with scratch(final) as tmp:
        try:
            tmp.mkdir()
            yield tmp
            _complete(tmp, manifest if isinstance(manifest, Manifest) else manifest(), known or {})
            with fences.passing(final.parent):
                _appear(tmp, final)
        except (OSError, RuntimeError) as error:
            # Libraries that write files (numpy, FAISS, SQLite) say in many ways that the disk is full; asked while what
            # fills it is still there.
            if (isinstance(error, OSError) and error.errno) or not _is_full(final.parent):
                raise
            raise StorageError(f"{final.parent}: {FULL_DISK}") from error


@contextmanager
def scratch(final: Path) -> Iterator[Path]:
    """A name beside `final` to make it under; what bears that name after the block is deleted. Others may do the same
    meanwhile, on this machine or elsewhere."""
    final.parent.mkdir(parents=True, exist_ok=True)
    sweep(final.parent)
    tmp = final.parent / f"{TMP_PREFIX}{final.name}-{secrets.token_hex(4)}-{os.getpid()}"
    with _writing(final.parent):
        try:
            yield tmp
        finally:
            shutil.rmtree(tmp, ignore_errors=True)


@contextmanager
def _writing(parent: Path) -> Iterator[None]:
    """Nobody sweeps `parent` in this block: a process in another container can't tell by its id that ours runs."""
    fd = os.open(parent, os.O_RDONLY | os.O_CLOEXEC)
    try:
        with suppress(OSError):  # a file system without locks
            fcntl.flock(fd, fcntl.LOCK_SH)
        yield
    finally:
        os.close(fd)


def _appear(tmp: Path, final: Path) -> None:
    try:
        tmp.rename(final)
    except OSError:
        if not (final / MANIFEST).is_file():  # what is left of one that was being deleted when the power went
            remove(final)
            tmp.rename(final)
    _fsync(final.parent)


def _complete(tmp: Path, manifest: Manifest, known: Mapping[str, str]) -> None:
    names = sorted(p.relative_to(tmp).as_posix() for p in tmp.rglob("*") if p.is_file())
    files = {name: known.get(name) or file_digest(tmp / name) for name in names}
    created = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    complete = asdict(manifest) | {"files": files, "created": created}
    write_bytes(tmp / MANIFEST, (json.dumps(complete, indent=1, sort_keys=True) + "\n").encode())
    _fsync_tree(tmp)


def link(source: Path, target: Path) -> None:
    """The same file under another name; a copy where the file system has no hard links."""
    try:
        target.hardlink_to(source)
    except OSError:
        shutil.copyfile(source, target)


def read_manifest(snapshot: Path, kind: str, format_version: int) -> Manifest:
    """Raises StorageError when the manifest is missing, unreadable, of another kind or of another format."""
    try:
        raw = json.loads((snapshot / MANIFEST).read_text(encoding="utf-8"))
        manifest = Manifest(**raw)
    except (OSError, ValueError, TypeError) as error:
        raise StorageError(
            f"{snapshot}: no readable {MANIFEST} ({type(error).__name__}); delete it to rebuild"
        ) from error
    if manifest.kind != kind:
        raise StorageError(f"{snapshot}: is a snapshot of kind {manifest.kind!r}, not {kind!r}")
    if manifest.format_version != format_version:
        raise StorageError(
            f"{snapshot}: format {manifest.format_version}, this Homespun reads {format_version};"
            " use the version that wrote it or delete it to rebuild"
        )
    return manifest


def verify(snapshot: Path, manifest: Manifest, known: Collection[str] = ()) -> None:
    """Compare every file with the manifest; those whose digest is in `known` must only be there. Raises StorageError
    naming the first that is missing or differs."""
    for name, expected in manifest.files.items():
        path = snapshot / name
        if not path.is_file():
            raise StorageError(f"{path}: missing; delete {snapshot} to rebuild it")
        if expected not in known and file_digest(path) != expected:
            raise StorageError(f"{path}: damaged (checksum differs from the manifest); delete {snapshot} to rebuild it")


def write_atomic(path: Path, text: str) -> None:
    """Replace a small file: readers see the old or the new text, never a part. Threads may write the same one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    tmp = path.with_name(f"{TMP_PREFIX}{path.name}-{threading.get_ident()}-{os.getpid()}")
    try:
        with _writing(path.parent):
            with tmp.open("w", encoding="utf-8") as handle:
                handle.write(text)
                handle.flush()
                os.fsync(handle.fileno())
            tmp.replace(path)
        _fsync(path.parent)
    finally:
        tmp.unlink(missing_ok=True)


def set_current(parent: Path, name: str) -> None:
    """Make `parent/name` the current snapshot of `parent`. Raises StorageError when this process works under a lease
    that has ended."""
    with fences.passing(parent):
        write_atomic(parent / CURRENT, name + "\n")


def current(parent: Path) -> Path | None:
    """The current snapshot of `parent`; None when none was published, it was deleted since or the pointer is damaged:
    publishing anew mends that."""
    try:
        name = (parent / CURRENT).read_text(encoding="utf-8").strip()
        path = parent / name
        return path if name and (path / MANIFEST).is_file() else None
    except (OSError, ValueError):
        return None


def prune(parent: Path, keep: int) -> None:
    """Delete the oldest snapshots of `parent` beyond `keep`, never the current one."""
    for old in others(parent)[max(0, keep - 1) :]:
        remove(old)


def others(parent: Path) -> list[Path]:
    """The snapshots of `parent` but the current one, newest first."""
    live = current(parent)
    # A temporary one is being written by another process, or litter.
    named = [p for p in parent.iterdir() if not p.name.startswith(TMP_PREFIX)]
    snapshots = [p for p in named if (p / MANIFEST).is_file() and p != live]
    return sorted(snapshots, key=lambda p: p.stat().st_mtime, reverse=True)


def remove(snapshot: Path) -> None:
    """Delete a snapshot: by rename at first, so that it is gone at once or not at all."""
    doomed = snapshot.parent / f"{TMP_PREFIX}{snapshot.name}-removed-{os.getpid()}"
    shutil.rmtree(doomed, ignore_errors=True)
    try:
        snapshot.rename(doomed)
    except FileNotFoundError:
        return
    shutil.rmtree(doomed, ignore_errors=True)


def sweep(parent: Path) -> None:
    """Remove what writers that no longer run left half-written, unless somebody writes to `parent` now. What bears our
    own id is a dead process's then, as containers use small ids again and again."""
    fd = os.open(parent, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        _sweep(parent, least_age_s=0.0)
    except BlockingIOError:
        pass
    except OSError:  # NFS has no such locks of directories
        _sweep(parent, least_age_s=_SURELY_DEAD_S)
    finally:
        os.close(fd)


def _sweep(parent: Path, least_age_s: float) -> None:
    for leftover in parent.glob(f"{TMP_PREFIX}*"):
        pid = leftover.name.rpartition("-")[2]
        is_others = pid.isdigit() and int(pid) != os.getpid() and _is_running(int(pid))
        if is_others or not _is_older(leftover, least_age_s):
            continue
        if leftover.is_dir():
            shutil.rmtree(leftover, ignore_errors=True)
        else:
            leftover.unlink(missing_ok=True)


def _is_older(path: Path, age_s: float) -> bool:
    try:
        return time.time() - path.lstat().st_mtime >= age_s
    except FileNotFoundError:
        return False


@contextmanager
def locked(path: Path, holder: str, patience_s: float = 0.0) -> Iterator[None]:
    """Hold an exclusive advisory lock for the time of the block; it goes with the process, so kill -9 frees it.

    Raises BusyError when another process holds it, and still does after `patience_s`. `holder` says in that message
    what is going on.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    until = time.monotonic() + patience_s
    with path.open("a+") as handle:
        while not _is_taken(handle):
            if time.monotonic() >= until:
                raise BusyError(f"{path}: {holder} is already running on this data directory; wait for it or stop it")
            time.sleep(_LOOK_S)
        yield


def _is_taken(handle: IO[str]) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_full(path: Path) -> bool:
    return shutil.disk_usage(path).free < _FULL_BELOW


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _fsync_tree(root: Path) -> None:
    for path in sorted(root.rglob("*"), reverse=True):
        _fsync(path)
    _fsync(root)


def _fsync(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
