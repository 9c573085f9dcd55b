"""A made-up machine room on this machine: processes with a network namespace and an address each, behind one bridge.

As root the caller's process is started again in namespaces of its own (network, mounts, processes), so that nothing is
left behind however it ends. Without root everything is on loopback, and `Room.is_apart` says so.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

_INSIDE = "MACHINE_ROOM"
_SUBNET, _BRIDGE = "10.77.0", "room"
_PAUSE_S = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    name: str
    address: str
    enter: tuple[str, ...]
    """What stands before a command that is to run there."""


class Room:
    """Machines by name. Made by `entered`."""

    def __init__(self, is_apart: bool) -> None:
        self.is_apart = is_apart
        self._machines: dict[str, Machine] = {}

    def machine(self, name: str) -> Machine:
        if name not in self._machines:
            self._machines[name] = self._added(name, len(self._machines) + 2)
        return self._machines[name]

    def _added(self, name: str, number: int) -> Machine:
        if not self.is_apart:
            return Machine(name=name, address="127.0.0.1", enter=())
        address, cable = f"{_SUBNET}.{number}", f"cable{number}"
        for words in (
            f"netns add {name}",
            f"link add {cable} type veth peer name eth0 netns {name}",
            f"link set {cable} master {_BRIDGE} up",
            f"-n {name} addr add {address}/24 dev eth0",
            f"-n {name} link set eth0 up",
            f"-n {name} link set lo up",
        ):
            _ip(words)
        return Machine(name=name, address=address, enter=("ip", "netns", "exec", name))


def entered() -> Room:
    """Starts this program again inside of a room; there, and where that can't be done, returns it."""
    if os.environ.get(_INSIDE):
        subprocess.run(["mount", "-t", "tmpfs", "tmpfs", "/run/netns"], check=True)
        for words in ("link set lo up", f"link add {_BRIDGE} type bridge", f"addr add {_SUBNET}.1/24 dev {_BRIDGE}"):
            _ip(words)
        _ip(f"link set {_BRIDGE} up")
        return Room(is_apart=True)
    if os.geteuid() == 0 and shutil.which("ip") and shutil.which("unshare"):
        Path("/run/netns").mkdir(exist_ok=True)
        apart = ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
        trial = [*apart, "ip", "link", "add", "probe", "type", "bridge"]
        if subprocess.run(trial, capture_output=True).returncode == 0:
            os.environ[_INSIDE] = "1"
            os.execvp(apart[0], [*apart, sys.executable, *sys.argv])
    print("no network namespaces (they need root): everything is on loopback", file=sys.stderr)
    return Room(is_apart=False)


def _ip(words: str) -> None:
    subprocess.run(["ip", *words.split()], check=True)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass(slots=True, kw_only=True)
class Service:
    """A program on a machine; its output goes to a file."""

    machine: Machine
    argv: Sequence[str]
    folder: Path
    environ: Mapping[str, str] = field(default_factory=dict)
    _process: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> Path:
        return self.folder / f"{self.machine.name}.log"

    def start(self) -> None:
        assert self._process is None
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [*self.machine.enter, *self.argv],
                cwd=self.folder,
                env=os.environ | self.environ,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def kill(self, number: int = signal.SIGKILL) -> None:
        """It and all that it started; nothing where it doesn't run."""
        if self._process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, number)
            self._process.wait()
            self._process = None

    @property
    def cpu_s(self) -> float:
        """Processor time so far, without that of its children."""
        assert self._process is not None
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    @property
    def memory_mb(self) -> float:
        assert self._process is not None
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        return int(status.split("VmRSS:")[1].split()[0]) / 1024

    def await_url(self, url: str, timeout_s: float) -> float:
        """Seconds until it answers there with a status below 400."""
        started = time.monotonic()
        while not answers(url):
            if self._process is None or self._process.poll() is not None or time.monotonic() - started > timeout_s:
                raise SystemExit(f"{self.machine.name} isn't there:\n{self.log.read_text(errors='replace')[-3_000:]}")
            time.sleep(_PAUSE_S)
        return time.monotonic() - started


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as response:
            return int(response.status) < 400
    except (urllib.error.URLError, OSError):
        return False


class Postgres:
    """A cluster of its own, reached over the network."""

    def __init__(self, machine: Machine, port: int, folder: Path) -> None:
        self._bin = _binaries()
        as_postgres = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
        self._account = as_postgres if os.geteuid() == 0 else []  # it refuses to run as root
        self._home = Path(tempfile.mkdtemp(prefix="homespun-pg-"))
        if self._account:
            shutil.chown(self._home, "postgres")
        self._data, self._machine, self._port = self._home / "data", machine, port
        subprocess.run(
            [*self._account, self._bin / "initdb", "-D", self._data, "-U", "postgres", "-A", "trust", "-E", "UTF8"],
            check=True,
            stdout=subprocess.DEVNULL,
            cwd="/",
        )
        with (self._data / "pg_hba.conf").open("a") as file:
            file.write(f"host all all {_SUBNET}.0/24 trust\n")
        options = (f"listen_addresses={machine.address}", f"port={port}", f"unix_socket_directories={self._home}")
        argv = [*self._account, str(self._bin / "postgres"), "-D", str(self._data)]
        argv += [word for option in options for word in ("-c", option)]
        self.service = Service(machine=machine, argv=argv, folder=folder)

    @property
    def url(self) -> str:
        return f"postgresql+psycopg://postgres@{self._machine.address}:{self._port}/postgres"

    def start(self) -> None:
        self.service.start()
        asking = [self._bin / "pg_isready", "-q", "-h", self._home, "-p", str(self._port)]
        deadline = time.monotonic() + 60
        while subprocess.run(asking, check=False).returncode:
            if time.monotonic() > deadline:
                raise SystemExit(self.service.log.read_text(errors="replace")[-3_000:])
            time.sleep(_PAUSE_S)

    def remove(self) -> None:
        self.service.kill()
        shutil.rmtree(self._home, ignore_errors=True)


def _binaries() -> Path:
    places = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    found = places[-1] if places else shutil.which("initdb")
    if found is None:
        raise SystemExit("PostgreSQL isn't installed; on Debian: sudo apt-get install postgresql")
    return Path(found).resolve().parent
