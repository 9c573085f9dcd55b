"""What can go wrong in the world (bugs are asserts).

HomespunError             one line: the thing, its value, the remedy
├─ ConfigError            a setting, file or flag that makes no sense
├─ RepositoryError        not a git repository, unreadable URL, nothing to index
│  └─ TooLittleCode       nothing worth training on; no failure, and no reason to try again
│     └─ NoSourceFiles    not one file
├─ ModelError             a base model or adapter that can't be loaded or isn't what it should be
├─ StorageError           a snapshot that is missing, damaged or of another format; a full disk
│  └─ BusyError           another process works on the same; it may be tried again later
└─ ServiceError           a port in use, a server that can't be reached
"""

from __future__ import annotations

import errno
import logging
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager

logger = logging.getLogger(__name__)


class HomespunError(Exception):
    """Its text is shown to people as it stands: one line, no traceback. Name the thing, the value and the remedy."""


class ConfigError(HomespunError):
    pass


class RepositoryError(HomespunError):
    pass


class TooLittleCode(RepositoryError):
    pass


class NoSourceFiles(TooLittleCode):
    pass


class ModelError(HomespunError):
    pass


class StorageError(HomespunError):
    pass


class BusyError(StorageError):
    pass


class ServiceError(HomespunError):
    pass


FULL_DISK = "the disk is full; free some space and run the same command again, finished work is kept"
_OS_REMEDIES = {
    errno.ENOSPC: FULL_DISK,
    errno.EDQUOT: "the disk quota is used up; free some space and run the same command again, finished work is kept",
    errno.EROFS: "the file system is read-only; choose another place with --data-dir",
    errno.EIO: "the disk failed (input/output error); nothing of this run counts, check the disk before the next one",
    errno.EMFILE: "too many open files; raise the limit (ulimit -n 4096) and run the same command again",
    errno.EACCES: "permission denied; check who owns it or choose another place with --data-dir",
}


def explain_os_error(error: OSError) -> HomespunError | None:
    """The one-line form of an operating-system error a user can do something about; None for the others."""
    remedy = _OS_REMEDIES.get(error.errno or 0)
    if remedy is None:
        return None
    return StorageError(f"{error.filename or 'the data directory'}: {remedy}")


def os_error_in(error: Exception) -> OSError | None:
    """What the operating system said to a library that is written in Rust (safetensors, tokenizers), which puts it into
    words; None where it said nothing."""
    said = re.search(r"\(os error (\d+)\)", str(error))
    return OSError(int(said[1]), os.strerror(int(said[1]))) if said else None


@contextmanager
def unless_read_only(what: str) -> Iterator[None]:
    """For what a server can do without where it serves a read-only file system; `what` it does without is logged."""
    try:
        yield
    except OSError as error:
        if error.errno != errno.EROFS:
            raise
        logger.warning("the file system is read-only: %s", what)


def explain_want_of_memory(error: BaseException) -> HomespunError | None:
    """The same for what Python, or a library that allocates by itself, says when there is no memory; else None."""
    said = str(error)
    if not isinstance(error, MemoryError) and not (
        "bad_alloc" in said or ("memory" in said and ("allocate" in said or "out of" in said.lower()))
    ):
        return None
    return HomespunError(
        "not enough memory; free some, or make the work smaller (--num-threads, --lora-rank), and run it again"
    )
