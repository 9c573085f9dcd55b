"""Machines that are broken in one way: a small disk, a call that fails, no network."""

from __future__ import annotations

import contextlib
import shlex
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.e2e.command import Running, homespun, running
from tests.repos import SHOP, make_repo

BODY = {"prompt": "def discounted_price(item, percent):\n    full_price = ", "max_tokens": 12, "temperature": 0}
_UP = "import fcntl,socket,struct as s;k=socket.socket();fcntl.ioctl(k,0x8914,s.pack('16sH14x',b'lo',0x49))"
"""Brings the loopback device up, where there is no `ip`."""


class Server:
    """`homespun serve`, as a process."""

    def __init__(self, process: Running, url: str) -> None:
        self.running, self.url = process, url
        self.pid = process.process.pid

    def ask(self, **more: Any) -> httpx.Response:
        return httpx.post(f"{self.url}/v1/completions", json=BODY | more, timeout=30)

    @property
    def text(self) -> str:
        reply = self.ask()
        assert reply.status_code == 200, reply.text
        return str(reply.json()["choices"][0]["text"])

    @property
    def is_ready(self) -> bool:
        return httpx.get(f"{self.url}/readyz", timeout=30).status_code == 200

    def kill(self) -> None:
        self.running.process.send_signal(signal.SIGKILL)
        self.running.process.wait(30)

    def inside(self, *words: str) -> list[str]:
        """A command that runs where the server does: in its namespaces, as its user."""
        return ["nsenter", f"--target={self.pid}", "--user", "--preserve-credentials", "--mount", "--net", *words]


@contextmanager
def serving(root: Path, *flags: str, prefix: Sequence[str] = (), data: str = "data") -> Iterator[Server]:
    words = ("serve", "--port=0", f"--data-dir={data}", "--retrieve-deadline-ms=5000", *flags)
    with running(*words, cwd=root, prefix=prefix) as process:
        line = process.wait_for("homespun is ready: ", timeout=100)
        yield Server(process, line.split()[-1])
    assert not [line for line in process.lines if "Traceback" in line], "\n".join(process.lines)


def make_shop(root: Path) -> Path:
    """A repository at `root/shop`, indexed in `root/data`."""
    shop = make_repo(root / "shop", SHOP)
    done = homespun("index", "shop", "--data-dir=data", cwd=root)
    assert done.returncode == 0, done.stderr
    return shop


def one_line(done: subprocess.CompletedProcess[str]) -> str:
    """What a command says that failed in a way we know."""
    assert done.returncode == 1 and "Traceback" not in done.stderr, done.stdout + done.stderr
    (said,) = [line for line in done.stderr.splitlines() if line.startswith("homespun: ")]
    return said


@cache
def _can(*words: str) -> bool:
    return (
        shutil.which(words[0]) is not None and subprocess.run(words, capture_output=True, check=False).returncode == 0
    )


def on_a_small_disk(root: Path, megabytes: int, *, is_read_only: bool = False) -> list[str]:
    """What starts a command with `root/disk` on a file system of its own, which holds a copy of `root/data`."""
    if not _can("unshare", "--user", "--map-root-user", "--mount", "mount", "-t", "tmpfs", "tmpfs", "/mnt"):
        pytest.skip("no user namespaces here, so no file system of a test's own")
    (root / "disk").mkdir(exist_ok=True)
    end = "mount -o remount,ro disk && " if is_read_only else ""
    script = f'mount -t tmpfs -o size={megabytes}m tmpfs disk && cp -r data disk/ && {end}exec "$@"'
    return ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script, "sh"]


def seen_by(server: Server, path: Path) -> Path:
    """A path on that disk, from outside."""
    return Path(f"/proc/{server.pid}/root{path}")


def fill(path: Path) -> None:
    """All that is left of the disk that `path` is on."""
    with path.open("ab", buffering=0) as handle, contextlib.suppress(OSError):
        for size in (1 << 20, 4096, 1):
            with contextlib.suppress(OSError):
                while True:
                    handle.write(b"\0" * size)


def without_a_network() -> list[str]:
    if not _can("unshare", "--user", "--map-root-user", "--net", "true"):
        pytest.skip("no user namespaces here, so no network of a test's own")
    python = shlex.quote(shutil.which("python3") or "python3")
    script = f'{python} -c "{_UP}" && exec "$@"'
    return ["unshare", "--user", "--map-root-user", "--net", "sh", "-c", script, "sh"]


def failing(call: str, error: str, when: str) -> list[str]:
    """What starts a command whose system calls fail: `when` as strace has it (3, 3+, 2+5)."""
    if not _can("strace", "-f", "--seccomp-bpf", "-qq", "-o", "/dev/null", "-e", "trace=fsync", "true"):
        pytest.skip("strace isn't here or may not trace; on Debian: apt-get install strace")
    what = f"inject={call}:{error}:when={when}"
    return ["strace", "-f", "--seccomp-bpf", "-qq", "-o", "/dev/null", "-e", f"trace={call}", "-e", what]


@contextmanager
def failing_within(pid: int, calls: str, error: str) -> Iterator[None]:
    """While in this block, these system calls of a process that runs already fail."""
    words = ["strace", "-f", "-qq", "-o", "/dev/null", "-p", str(pid), "-e", f"trace={calls}"]
    with subprocess.Popen([*words, "-e", f"inject={calls}:{error}"], stderr=subprocess.DEVNULL) as tracer:
        try:
            while not is_traced(pid):
                if tracer.poll() is not None:
                    pytest.skip("strace may not trace what runs already; see kernel.yama.ptrace_scope")
                time.sleep(0.01)
            yield
        finally:
            tracer.terminate()


def is_traced(pid: int) -> bool:
    """In each of its threads."""
    statuses = [task / "status" for task in Path(f"/proc/{pid}/task").iterdir()]
    return all("TracerPid:\t0\n" not in status.read_text() for status in statuses)


def open_files(pid: int) -> int:
    return sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())
