"""A real PostgreSQL for tests: Debian's, a cluster of its own in a temporary folder, reached by a unix socket only.

Where PostgreSQL isn't installed and we may (root, Debian), it is installed; else `Unavailable` says why there is none.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import subprocess
import tempfile
import time
import uuid
from functools import partial
from pathlib import Path

from homespun_core.children import end_with_parent

_START_S = 30.0
_INSTALL_LOCK = Path(tempfile.gettempdir()) / "homespun-apt.lock"


class Unavailable(Exception):
    """Why tests on PostgreSQL can't run here."""


class Cluster:
    """A running server; each database is made on demand. `kill` and `start` are for tests of what happens then."""

    def __init__(self) -> None:
        self._bin = _binaries()
        self.binaries = self._bin
        self._account = "postgres" if os.geteuid() == 0 else None  # it refuses to run as root
        self.folder = Path(tempfile.mkdtemp(prefix="homespun-pg-"))  # short: a socket's path has 107 bytes
        if self._account:
            shutil.chown(self.folder, self._account)
        self._call("initdb", "-D", str(self._data), "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-sync")
        self.start()

    @property
    def _data(self) -> Path:
        return self.folder / "data"

    def start(self) -> None:
        """Again after `kill`: until the last of its processes has noticed, a new one ends at once."""
        deadline = time.monotonic() + _START_S
        self._process = self._launched()
        while subprocess.run([self._bin / "pg_isready", "-q", "-h", self.folder], check=False).returncode:
            if time.monotonic() > deadline:
                raise Unavailable((self.folder / "log").read_text(errors="replace")[-2_000:])
            time.sleep(0.05)
            if self._process.poll() is not None:
                self._process = self._launched()

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def _launched(self) -> subprocess.Popen[bytes]:
        options = ["listen_addresses=", f"unix_socket_directories={self.folder}", "fsync=off", "shared_buffers=16MB"]
        with (self.folder / "log").open("ab") as log:
            return subprocess.Popen(
                [self._bin / "postgres", "-D", self._data, *(word for o in options for word in ("-c", o))],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                user=self._account,
                group=self._account,
                cwd=self.folder,
                start_new_session=True,
                preexec_fn=partial(end_with_parent, os.getpid()),
            )

    def close(self) -> None:
        self._process.send_signal(signal.SIGQUIT)
        self._process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def url(self, database: str) -> str:
        return f"postgresql+psycopg://postgres@/{database}?host={self.folder}"

    def new_database(self) -> str:
        """The URL of an empty one."""
        name = f"test_{uuid.uuid4().hex[:12]}"
        self._call("createdb", "-h", str(self.folder), "-U", "postgres", name)
        return self.url(name)

    def _call(self, program: str, *arguments: str) -> None:
        subprocess.run(
            [self._bin / program, *arguments],
            check=True,
            stdout=subprocess.DEVNULL,
            user=self._account,
            group=self._account,
            cwd=self.folder,
        )


def _binaries() -> Path:
    found = _found()
    if found is None:
        _install()
        found = _found()
    if found is None:
        raise Unavailable("apt-get installed PostgreSQL, but there is no initdb")
    return found


def _found() -> Path | None:
    places = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if places:
        return places[-1].parent
    on_path = shutil.which("initdb")
    return Path(on_path).resolve().parent if on_path else None


def _install() -> None:
    """One of the test processes does; the others wait for it."""
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        raise Unavailable("PostgreSQL isn't installed; on Debian: sudo apt-get install postgresql")
    with _INSTALL_LOCK.open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if _found() is None:
            wanted = ["install", "-y", "-qq", "--no-install-recommends", "postgresql"]
            for words in (["update", "-qq"], wanted):
                done = subprocess.run(
                    ["apt-get", *words],
                    env=os.environ | {"DEBIAN_FRONTEND": "noninteractive"},
                    capture_output=True,
                    check=False,
                    timeout=100,
                )
            if done.returncode:
                raise Unavailable(f"apt-get can't install postgresql: {done.stderr.decode(errors='replace')[-300:]}")
