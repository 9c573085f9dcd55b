"""Runs the real `homespun` command."""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

HOMESPUN = [sys.executable, "-m", "homespun_core.cli"]


def homespun(
    *words: str, cwd: Path, timeout: float = 100, prefix: Sequence[str] = ()
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*prefix, *HOMESPUN, *words],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
        stdin=subprocess.DEVNULL,
    )


class Running:
    """A `homespun` process and the lines it has printed so far."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.lines: list[str] = []
        self._unread: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        threading.Thread(target=self._read, daemon=True).start()

    def wait_for(self, text: str, timeout: float = 280) -> str:
        """The first line, from now on, that contains `text`."""
        while True:
            line = self._unread.get(timeout=timeout)
            if line is None:
                raise AssertionError(f"ended without saying {text!r}:\n" + "\n".join(self.lines))
            if text in line:
                return line

    def interrupt(self) -> int:
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(60)

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line.rstrip("\n"))
            self._unread.put(line.rstrip("\n"))
        self._unread.put(None)


@contextmanager
def running(*words: str, cwd: Path, prefix: Sequence[str] = ()) -> Iterator[Running]:
    """`prefix`: what starts it, as `unshare` or `prlimit`."""
    process = subprocess.Popen(
        [*prefix, *HOMESPUN, *words],
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
    )
    try:
        yield Running(process)
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()
