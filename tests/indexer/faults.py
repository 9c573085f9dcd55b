"""A disk that fails, and a process that dies, at any call by which something reaches the disk.

Run as a program it indexes a repository again and again, and dies at another call each time: see `main`.
"""

from __future__ import annotations

import errno
import itertools
import os
import shutil
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from homespun_core import storage
from homespun_core.config import Settings
from homespun_core.paths import DataDir
from homespun_core.types import SilentProgress
from homespun_indexer import layout
from homespun_indexer.indexing import index_repository
from homespun_indexer.model_files import resolve_base_model
from homespun_indexer.repository import open_repository
from homespun_indexer.tokenizer import load_tokenizer
from tests.parsing import parse_here

DIED = 9
CALLS = ("fsync", "rename", "replace", "link", "mkdir", "utime")
DELETING = ("unlink", "rmdir")
Replace = Callable[[Any, str, Any], None]


class Faults:
    """Put in the place of the calls it counts; the one with the number `at` fails instead of being done, and `failed`
    is its name then."""

    def __init__(self, at: int, fail: Callable[[], None]) -> None:
        self._at, self._fail = at, fail
        self.count, self.failed = 0, ""

    def install(self, replace: Replace, calls: tuple[str, ...]) -> None:
        for name in calls:
            replace(os, name, self._counted(name, getattr(os, name)))
        write_bytes = storage.write_bytes

        def write(path: Path, data: bytes) -> None:
            if self.count + 1 == self._at:
                path.write_bytes(data[: len(data) // 2])
            self._step("write")
            write_bytes(path, data)

        replace(storage, "write_bytes", write)

    def _counted(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*args: Any, **kwargs: Any) -> Any:
            self._step(name)
            return call(*args, **kwargs)

        return counted

    def _step(self, name: str) -> None:
        self.count += 1
        if self.count == self._at:
            self.failed = name
            self._fail()


def full() -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def die() -> None:
    os._exit(DIED)


def main(repository: str, template: str, results: str) -> None:
    """In copy N of the data directory `template`, a process dies at its Nth call; in the last one it doesn't.
    Prints how each ended."""
    layout._QUICK_BYTES = 0
    parse_here(setattr)
    model = resolve_base_model("builtin", "auto")
    tokenizer = load_tokenizer(model)
    for number in itertools.count(1):
        data = DataDir(Path(shutil.copytree(template, Path(results) / str(number))))
        pid = os.fork()
        if pid == 0:
            ended = 1
            try:
                repo = open_repository(repository, data, timeout_s=20, progress=SilentProgress())
                Faults(number, die).install(setattr, (*CALLS, *DELETING))
                index_repository(
                    repo, settings=Settings(), data=data, model=model, tokenizer=tokenizer, progress=SilentProgress()
                )
                ended = 0
            except BaseException:
                traceback.print_exc()
                raise
            finally:  # whatever happened, this process must not go on as if it were the other one
                os._exit(ended)
        ended = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        print(ended, flush=True)
        if ended != DIED:
            return


if __name__ == "__main__":
    main(*sys.argv[1:])
