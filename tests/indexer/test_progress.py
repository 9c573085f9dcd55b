"""Bars on a real terminal: a pseudo-terminal with a child process on it."""

from __future__ import annotations

import os
import pty
import subprocess
import sys

STARTED_AND_FAILED = """
import sys
from homespun_indexer.progress import progress_for_terminal
progress = progress_for_terminal()
progress.start("Reading", total=10, unit="files")
progress.advance(3)
sys.exit("homespun: the disk is full")
"""
HIDE, SHOW = "\x1b[?25l", "\x1b[?25h"


def on_terminal(code: str) -> str:
    """What a child process writes to a terminal."""
    ours, theirs = pty.openpty()
    environ = os.environ | {"TERM": "xterm-256color"}
    process = subprocess.Popen([sys.executable, "-c", code], stdin=theirs, stdout=theirs, stderr=theirs, env=environ)
    os.close(theirs)
    written = b""
    while True:
        try:
            part = os.read(ours, 4096)
        except OSError:  # Linux's way to say that the other side has closed it
            break
        written += part
    os.close(ours)
    process.wait()
    return written.decode(errors="replace")


def test_an_error_in_the_middle_of_a_step_gives_the_cursor_back() -> None:
    shown = on_terminal(STARTED_AND_FAILED)
    assert "the disk is full" in shown
    assert shown.rfind(SHOW) > shown.rfind(HIDE) >= 0
