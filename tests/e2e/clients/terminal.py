"""A program in a terminal of its own: keys go in, what it draws comes out."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import termios
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

_PATIENCE_S = 60.0
_CONTROL = re.compile(r"\x1b(\[[0-?]*[ -/]*[@-~]|[@-Z\\-_]|\][^\x07]*\x07)")


class Terminal:
    def __init__(self, process: subprocess.Popen[bytes], master: int) -> None:
        self.process = process
        self._master = master
        self.drawn = ""

    def type(self, keys: str) -> None:
        os.write(self._master, keys.encode())

    def wait_for(self, text: str, again: str | None = None) -> None:
        """Until it is drawn; what was drawn before counts no more. `again` is typed every two seconds meanwhile."""
        begun = typed = time.monotonic()
        while text not in self.drawn:
            now = time.monotonic()
            assert now < begun + _PATIENCE_S, f"never drew {text!r}:\n{self.drawn}"
            if again and now > typed + 2:
                self.type(again)
                typed = now
            self._read()
        self.drawn = ""

    def ended(self) -> None:
        end = time.monotonic() + _PATIENCE_S
        while self.process.poll() is None:
            assert time.monotonic() < end, self.drawn
            self._read()

    def _read(self) -> None:
        if select.select([self._master], [], [], 0.05)[0]:
            try:
                self.drawn += _CONTROL.sub("", os.read(self._master, 65536).decode(errors="replace"))
            except OSError:  # it has ended
                time.sleep(0.05)


@contextmanager
def terminal(command: list[str], folder: Path, environ: Mapping[str, str]) -> Iterator[Terminal]:
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
    process = subprocess.Popen(
        command,
        cwd=folder,
        env={**os.environ, "TERM": "xterm-256color", **environ},
        stdin=slave,
        stdout=slave,
        stderr=slave,
        start_new_session=True,
    )
    os.close(slave)
    try:
        yield Terminal(process, master)
    finally:
        process.kill()
        process.wait()
        os.close(master)
