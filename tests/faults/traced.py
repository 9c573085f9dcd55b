"""Run as a program: index a repository again and again, each time in a process whose system calls strace breaks at
another place. See `main`."""

from __future__ import annotations

import ctypes
import itertools
import os
import shutil
import subprocess
import sys
import time
import traceback
from pathlib import Path

from homespun_core.config import Settings
from homespun_core.paths import DataDir
from homespun_core.types import SilentProgress
from homespun_indexer import layout
from homespun_indexer.indexing import index_repository
from homespun_indexer.model_files import resolve_base_model
from homespun_indexer.repository import open_repository
from homespun_indexer.tokenizer import load_tokenizer
from tests.parsing import parse_here

FAILED = 3
_PR_SET_PTRACER, _ANY = 0x59616D61, -1


def main(repository: str, template: str, results: str, calls: str, fault: str, rest: str) -> None:
    """In copy N of the data directory `template`, the Nth of these system calls gets the fault (as strace has it), and
    where `rest` is "+" all after it; until three in a row ended well. Prints how each ended: 0, FAILED (an error of the
    operating system) or -9.
    """
    layout._QUICK_BYTES = 0
    parse_here(setattr)
    model = resolve_base_model("builtin", "auto")
    tokenizer = load_tokenizer(model)
    well = 0
    for number in itertools.count(1):
        if well == 3:
            return
        data = DataDir(Path(shutil.copytree(template, Path(results) / str(number))))
        pid = os.fork()
        if pid == 0:
            ended = 1
            try:
                _wait_for_tracer()
                repo = open_repository(repository, data, timeout_s=20, progress=SilentProgress())
                index_repository(
                    repo, settings=Settings(), data=data, model=model, tokenizer=tokenizer, progress=SilentProgress()
                )
                ended = 0
            except OSError:
                ended = FAILED
            except BaseException:
                traceback.print_exc()
                raise
            finally:  # whatever happened, this process must not go on as if it were the other one
                os._exit(ended)
        inject = ["-e", f"trace={calls}", "-e", f"inject={calls}:{fault}:when={number}{rest}"]
        with subprocess.Popen(["strace", "-qq", "-o", "/dev/null", "-p", str(pid), *inject]):
            ended = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        print(ended, flush=True)
        well = 0 if ended else well + 1


def _wait_for_tracer() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PTRACER, _ANY, 0, 0, 0)
    end = time.monotonic() + 20
    while "TracerPid:\t0\n" in Path("/proc/self/status").read_text():
        assert time.monotonic() < end, "strace may not trace what runs already; see kernel.yama.ptrace_scope"
        time.sleep(0.005)


if __name__ == "__main__":
    main(*sys.argv[1:])
