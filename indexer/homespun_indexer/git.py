"""The one way Homespun runs git: plumbing only, nothing of the user's, the system's or the repository's configuration
obeyed.

A repository is untrusted, its `.git/config` included: hooks, fsmonitor, filters, textconv, external diffs and signing
programs are commands somebody else chose. Git offers no switch for all of them, so we (1) run only plumbing that reads
objects, (2) override the ones that such plumbing could still reach, (3) never check anything out. Reading allows no
transport at all (objects missing from a partial clone stay missing), cloning and fetching only https and ssh: ext:: (a
command as a URL) and file:// (a hostile repository as a path) are refused by git itself as well.

What that costs the user: credential helpers of ~/.gitconfig aren't consulted. Private repositories are cloned over ssh,
whose keys, agent and ~/.ssh/config work as always, or over https with a token, which git is given in its environment:
arguments can be read by everybody on the machine.
"""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from homespun_core.errors import RepositoryError

_OVERRIDES = (
    "core.hooksPath=/dev/null",
    "core.fsmonitor=false",
    "core.untrackedCache=false",
    "core.symlinks=false",
    # No prompt for a password or a host key, an end when the network is gone; ~/.ssh is read.
    "core.sshCommand=ssh -oBatchMode=yes -oConnectTimeout=30 -oServerAliveInterval=15 -oServerAliveCountMax=4",
    "core.attributesFile=/dev/null",
    "core.excludesFile=/dev/null",  # this one and the next three name files: a pipe would be waited for
    "diff.orderFile=/dev/null",
    "mailmap.file=/dev/null",
    "log.mailmap=false",
    "core.quotePath=false",
    "credential.helper=",
    "diff.external=",
    "gc.auto=0",
    "maintenance.auto=false",
    "fetch.recurseSubmodules=false",
    "submodule.recurse=false",
    "http.followRedirects=false",
    "http.lowSpeedLimit=1",  # bytes a second: a busy host that only keeps the connection alive is waited for
    "http.lowSpeedTime=60",
    "transfer.fsckObjects=true",
    "fetch.fsckObjects=true",
    # Harmless mistakes of old tools that well-known repositories carry in their history.
    "fetch.fsck.badTimezone=ignore",
    "fetch.fsck.zeroPaddedFilemode=ignore",
    "fetch.fsck.missingSpaceBeforeDate=ignore",
    "log.showSignature=false",
    "filter.lfs.smudge=",
    "filter.lfs.clean=",
    "filter.lfs.process=",
    "filter.lfs.required=false",
    "protocol.allow=never",
)

_ENVIRONMENT = {
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_ASKPASS": "true",
    "SSH_ASKPASS": "true",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_ATTR_NOSYSTEM": "1",
    "GIT_OPTIONAL_LOCKS": "0",  # reading must not write into the user's repository
    "GIT_LFS_SKIP_SMUDGE": "1",
    "GIT_NO_REPLACE_OBJECTS": "1",
    "GIT_NO_LAZY_FETCH": "1",
    "GIT_PAGER": "cat",
    "LC_ALL": "C",
}
_KEPT = ("GIT_SSH_COMMAND", "GIT_SSL_CAINFO", "GIT_SSL_CAPATH")
"""What a user may set for their own network: another ssh, a company's certificate authority."""
_QUICK_S = 120
"""Time limit of commands that only read a repository."""
_LONG_S = 4 * 3_600
"""The same for those whose output is read as it comes: a million commits may be looked through for renames, and what is
done with the output between two reads counts as well."""
_LOOK_S = 0.2
"""How often a transfer's size is looked at: at 1 GB/s it can overshoot by 200 MB."""
END_S = 5
"""Time to tidy up that a git which we end is given."""
_GUARD = f'trap "" TERM; read -r line; kill -TERM 0; sleep {END_S}; kill -KILL 0'
"""Ends its process group when there is nobody any more who could write to it."""


class GitFailed(RepositoryError):
    """A git command that ended with an error; `reason` is git's last line, which may name paths but no credentials of
    ours."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class TooLarge(GitFailed):
    """A directory grew beyond its cap."""


@dataclass(frozen=True, slots=True)
class Cap:
    """How large a directory may become while git writes into it."""

    folder: Path
    max_mb: int

    def check(self) -> int:
        """Its size in MB. Raises TooLarge."""
        num_bytes = _size(self.folder)
        if num_bytes > self.max_mb * 1_000_000:
            raise TooLarge(f"larger than {self.max_mb:,} MB; raise max_clone_mb if it is meant to be")
        return num_bytes // 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Git:
    """Git in one repository that the user named (`safe.directory` trusts exactly that, whoever owns it), or in none."""

    git_dir: Path | None = None
    work_tree: Path | None = None
    protocols: Sequence[str] = ()
    """Transports that may be used; reading needs none."""
    secrets: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    """Configuration (name, value) that goes by environment, since it holds credentials."""

    def text(self, *args: str, timeout_s: int = _QUICK_S) -> str:
        return self.output(*args, timeout_s=timeout_s).decode("utf-8", "replace")

    def output(self, *args: str, timeout_s: int = _QUICK_S, stdin: bytes = b"") -> bytes:
        """Output of a command. Raises GitFailed, and RepositoryError where git is missing."""
        return self._finished(args, timeout_s, stdin)

    def transfer(self, *args: str, timeout_s: int, look: Callable[[], object]) -> bytes:
        """Output of a command that uses the network. It ends with us, whatever ends us, and when `look`, called several
        times a second, raises. Raises as `output` does."""
        with _guarded() as group:
            return self._finished(args, timeout_s, b"", look, group)

    def _finished(
        self,
        args: Sequence[str],
        timeout_s: float,
        stdin: bytes,
        look: Callable[[], object] | None = None,
        group: int = 0,
    ) -> bytes:
        process = self._started(args, group)
        try:
            out, err = _communicate(process, stdin, timeout_s, look)
        finally:
            _end(process, group or process.pid)
        if process.returncode != 0:
            raise GitFailed(self._scrubbed(_last_line(err)))
        return out

    def _started(self, args: Sequence[str], group: int) -> subprocess.Popen[bytes]:
        """In a process group that isn't ours (0: in one of its own): git's helpers must end with it."""
        try:
            return subprocess.Popen(
                self._command(args),
                cwd=self._folder(),
                env=self._environment(),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                process_group=group,
            )
        except FileNotFoundError:
            folder = self._folder()
            if folder is not None and not folder.is_dir():
                raise RepositoryError(f"{folder}: no such directory any more") from None
            raise RepositoryError("git: not found; install git 2.35 or newer") from None

    def _scrubbed(self, message: str) -> str:
        for _, value in self.secrets:
            for secret in {value, value.rpartition(" ")[2]} - {""}:
                message = message.replace(secret, "…")
        return message

    @contextmanager
    def running(self, *args: str, timeout_s: float = _LONG_S) -> Iterator[subprocess.Popen[bytes]]:
        """A command whose output is read as it comes. It is ended with the block, and after `timeout_s` seconds: then
        the output just ends, and leaving the block raises GitFailed."""
        process = subprocess.Popen(
            self._command(args),
            cwd=self._folder(),
            env=self._environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        expired = threading.Event()

        def expire() -> None:
            if process.poll() is None:
                expired.set()
                process.kill()

        timer = threading.Timer(timeout_s, expire)
        timer.daemon = True
        timer.start()
        try:
            with process:
                try:
                    yield process
                finally:
                    timer.cancel()
                    process.kill()
        except BrokenPipeError:
            if not expired.is_set():
                raise RepositoryError(f"{self.git_dir}: git ended early; run `git fsck` in the repository") from None
        if expired.is_set():
            raise GitFailed(f"{self.git_dir}: `git {args[0]}` wasn't done within {timeout_s:g} s")

    def _folder(self) -> Path | None:
        """Where git runs: pathspecs count from the current directory, which may be any inside the repository. Commands
        that use the network name no paths inside it, and may be given relative ones in the environment."""
        place = self.work_tree or self.git_dir
        return None if place is None or self.protocols else place.absolute()

    def _command(self, args: Sequence[str]) -> list[str]:
        command = ["git"]
        for override in _OVERRIDES:
            command += ["-c", override]
        for protocol in self.protocols:
            command += ["-c", f"protocol.{protocol}.allow=always"]
        for trusted in (self.git_dir, self.work_tree):
            command += ["-c", f"safe.directory={trusted.absolute()}"] if trusted else []
        if self.git_dir is not None:
            command.append(f"--git-dir={self.git_dir.absolute()}")
        if self.work_tree is not None:
            command.append(f"--work-tree={self.work_tree.absolute()}")
        return [*command, *args]

    def _environment(self) -> dict[str, str]:
        """Ours without the GIT_* variables that a hook or a test runner may have set: GIT_DIR would point us
        elsewhere."""
        kept = {k: v for k, v in os.environ.items() if k in _KEPT or not k.startswith("GIT_")}
        own = {"GIT_ALLOW_PROTOCOL": ":".join(self.protocols), "GIT_CONFIG_COUNT": str(len(self.secrets))}
        for i, (name, value) in enumerate(self.secrets):
            own |= {f"GIT_CONFIG_KEY_{i}": name, f"GIT_CONFIG_VALUE_{i}": value}
        return kept | _ENVIRONMENT | own


@contextmanager
def _guarded() -> Iterator[int]:
    """A process group that ends with the block, and with this process, even by kill -9: git's helpers go on for a
    minute when they wait for a silent host, or for ever, and neither git nor the kernel ends them with it."""
    nowhere = subprocess.DEVNULL
    guard = subprocess.Popen(
        ["sh", "-c", _GUARD], stdin=subprocess.PIPE, stdout=nowhere, stderr=nowhere, process_group=0
    )
    try:
        yield guard.pid
    finally:
        _signal(guard.pid, signal.SIGKILL)  # not reaped yet, so the number is its group's and nobody else's
        guard.communicate()


def _communicate(
    process: subprocess.Popen[bytes], stdin: bytes, timeout_s: float, look: Callable[[], object] | None
) -> tuple[bytes, bytes]:
    """What the process said, once it has ended. Raises what `look` raises, and GitFailed when time is up; it runs on
    then."""
    deadline = time.monotonic() + timeout_s
    look_s = _LOOK_S
    given: bytes | None = stdin
    while True:
        left = deadline - time.monotonic()
        try:
            return process.communicate(given, timeout=max(0.0, left if look is None else min(left, look_s)))
        except subprocess.TimeoutExpired:
            given = None  # communicate goes on with what it was given first
        if time.monotonic() >= deadline:
            raise GitFailed(f"no answer within {timeout_s:g} s")
        if look is not None:
            began = time.monotonic()
            look()
            look_s = max(_LOOK_S, 10 * (time.monotonic() - began))  # a clone of many files is looked at less often


def _end(process: subprocess.Popen[bytes], group: int) -> None:
    """End the whole group, politely at first: git removes its temporary files. Nothing to do when it has ended."""
    if process.poll() is None:
        _signal(group, signal.SIGTERM)
        deadline = time.monotonic() + END_S
        # WNOWAIT: as long as it isn't reaped, its number is its group's and nobody else's.
        while not os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            if time.monotonic() > deadline:
                break
            time.sleep(0.01)
        _signal(group, signal.SIGKILL)
        process.wait()
    for pipe in (process.stdin, process.stdout, process.stderr):
        if pipe is not None:
            with suppress(OSError):
                pipe.close()


def _signal(group: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError, PermissionError):  # the latter on macOS, when only the unreaped one is left
        os.killpg(group, number)


def _size(folder: Path) -> int:
    """Bytes of all files below `folder`; what vanishes meanwhile is left out, 0 where there is nothing."""
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):
                total += (Path(parent) / name).lstat().st_size
    return total


def _last_line(stderr: bytes) -> str:
    lines = [line.strip() for line in stderr.decode("utf-8", "replace").splitlines() if line.strip()]
    telling = [line for line in lines if line.startswith(("fatal:", "error:", "ERROR:"))] or lines
    return telling[0].removeprefix("fatal: ") if telling else "no message"
