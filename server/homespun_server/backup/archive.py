"""The file of a backup: a compressed tar, `backup.json` first, with the size and SHA-256 of every other file.

Only what it lists is unpacked, only as plain files, and only under the names we would write ourselves.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
import time
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

from homespun_core import __version__, storage
from homespun_core.errors import StorageError
from homespun_server.backup.contents import is_safe

SUMMARY = "backup.json"
FORMAT = 1
_SUMMARY_BYTES = 64 << 20
_BLOCK = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    size: int
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    format: int
    homespun: str
    """The version that made it."""
    created: str
    """UTC, ISO 8601."""
    revision: str | None
    """Of the database's schema; None: there was no database."""
    files: Mapping[str, Entry]

    @property
    def size(self) -> int:
        return sum(entry.size for entry in self.files.values())


def pack(folder: Path, file: Path, revision: str | None) -> Summary:
    """All of `folder` becomes `file`, at once; an earlier one stays until then."""
    files = {path.relative_to(folder).as_posix(): _entry(path) for path in sorted(folder.rglob("*")) if path.is_file()}
    created = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    summary = Summary(format=FORMAT, homespun=__version__, created=created, revision=revision, files=files)
    with _appearing(file) as handle, tarfile.open(fileobj=handle, mode="w:gz", compresslevel=1) as tar:
        text = json.dumps(asdict(summary), indent=1).encode()
        _add(tar, SUMMARY, text)
        for name in files:
            _add(tar, name, folder / name)
    return summary


def read_summary(file: Path) -> Summary:
    """Raises StorageError when it is no backup, or one of a newer Homespun."""
    with _opened(file) as tar:
        return _summary(tar, file)


def unpack(file: Path, folder: Path | None) -> Summary:
    """Into an empty folder, each file on disk when this returns; without a folder everything is only checked. Raises
    StorageError at the first thing that isn't as it was packed."""
    with _opened(file) as tar:
        summary = _summary(tar, file)
        missing = set(summary.files)
        while member := tar.next():
            expected = summary.files.get(member.name)
            if member.name not in missing or expected is None or not member.isfile() or member.size != expected.size:
                raise StorageError(f"{file}: {member.name!r} doesn't belong there; restore another backup")
            missing.remove(member.name)
            source = tar.extractfile(member)
            assert source is not None  # of a plain file there is one
            if _copied(source, folder and folder / member.name) != expected.sha256:
                raise StorageError(f"{file}: {member.name} is damaged (checksum); restore another backup")
        while tar.fileobj and tar.fileobj.read(_BLOCK):  # to the end, where gzip has a checksum of all of it
            pass
    if missing:
        raise StorageError(f"{file}: {min(missing)} is missing, the file was cut off; restore another backup")
    return summary


def _summary(tar: tarfile.TarFile, file: Path) -> Summary:
    first = tar.next()
    source = tar.extractfile(first) if first and first.name == SUMMARY and first.size <= _SUMMARY_BYTES else None
    if source is None:
        raise StorageError(f"{file}: not a backup of Homespun")
    try:
        raw = json.loads(source.read())
        version, maker = raw["format"], str(raw["homespun"])[:40]
        if version != FORMAT:
            raise StorageError(
                f"{file}: format {version} of Homespun {maker}, this one reads {FORMAT}; restore with that"
            )
        files = {name: Entry(**entry) for name, entry in raw["files"].items()}
        unsafe = next((name for name in files if not is_safe(name)), None)
        if unsafe is not None:
            raise StorageError(f"{file}: lists {unsafe!r}, which no backup has; it isn't restored")
        return Summary(**{**raw, "files": files})
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise StorageError(f"{file}: its {SUMMARY} can't be read ({type(error).__name__})") from error


@contextmanager
def _opened(file: Path) -> Iterator[tarfile.TarFile]:
    try:
        with tarfile.open(file, mode="r:gz") as tar:
            yield tar
    except FileNotFoundError:
        raise StorageError(f"{file}: no such file") from None
    except (tarfile.TarError, EOFError, zlib.error) as error:
        raise StorageError(f"{file}: damaged, or not a backup of Homespun ({type(error).__name__})") from error
    except OSError as error:  # gzip's own, too
        if error.errno:
            raise
        raise StorageError(f"{file}: damaged, or not a backup of Homespun ({error})") from error


def _copied(source: IO[bytes], target: Path | None) -> str:
    """The digest of what was copied."""
    digest = hashlib.sha256()
    if target is None:
        while block := source.read(_BLOCK):
            digest.update(block)
        return digest.hexdigest()
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("xb") as handle:
        while block := source.read(_BLOCK):
            digest.update(block)
            handle.write(block)
        handle.flush()
        os.fsync(handle.fileno())
    return digest.hexdigest()


def _entry(path: Path) -> Entry:
    return Entry(size=path.stat().st_size, sha256=storage.file_digest(path))


def _add(tar: tarfile.TarFile, name: str, content: bytes | Path) -> None:
    member = tarfile.TarInfo(name)
    member.mode = 0o600
    if isinstance(content, bytes):
        member.size = len(content)
        tar.addfile(member, io.BytesIO(content))
        return
    with content.open("rb") as handle:
        member.size, member.mtime = os.fstat(handle.fileno()).st_size, int(content.stat().st_mtime)
        tar.addfile(member, handle)


@contextmanager
def _appearing(file: Path) -> Iterator[IO[bytes]]:
    """For this account only: accounts and tokens' digests are in it."""
    for litter in file.parent.glob(f".tmp-{file.name}-*"):
        litter.unlink(missing_ok=True)
    tmp = file.with_name(f".tmp-{file.name}-{os.getpid()}")
    try:
        with os.fdopen(os.open(tmp, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as handle:
            yield handle
            handle.flush()
            os.fsync(handle.fileno())
        tmp.replace(file)
    finally:
        tmp.unlink(missing_ok=True)
