"""Images at work: what they print, and a server in one until a test has done with it."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tests.deploy.containers import container

OWN, OPENSHIFT = 10001, 1000690000
"""The user of the image, and one that OpenShift makes up."""


def said(target: str, work: Path, uid: int, *words: str, repo: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(container(target, work, uid, *words, repo=repo), capture_output=True, text=True)


@contextlib.contextmanager
def serving(command: list[str]) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A container that becomes a server, and its address."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert process.stdout is not None
    try:
        lines: list[str] = []
        for line in process.stdout:
            lines.append(line)
            if line.startswith("homespun is ready: "):
                yield process, line.split()[-1]
                return
        raise AssertionError("".join(lines))
    finally:
        _end(process)


def _end(runtime: subprocess.Popen[str]) -> None:
    """The container with it: killing a runtime leaves its container running."""
    if runtime.poll() is None:
        for child in Path(f"/proc/{runtime.pid}/task/{runtime.pid}/children").read_text().split():
            os.kill(int(child), signal.SIGKILL)
    runtime.communicate()
