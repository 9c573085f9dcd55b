"""`homespun up`: the whole job on one machine, as the processes a larger installation would run apart.

    homespun serve     answers from the first second: base model, then with the index, then with the adapter
    homespun index     makes the repository searchable; afterwards keeps watching it
    homespun train     trains an adapter on it and puts it live if the gate lets it

They meet in the data directory only, so each can be stopped, killed or run by hand without the others.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import math
import os
import signal
import subprocess
import sys
import time
import urllib.error
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import IO

from homespun_core.config import INDEX, SERVE, TRAIN, LoadedSettings, Settings, add_flags, as_flags, settings_from_args
from homespun_core.errors import ServiceError
from homespun_core.paths import DataDir, hide_credentials
from homespun_core.storage import locked
from homespun_server.status import DIRECT

_START_TIMEOUT_S = 120.0
_STOP_TIMEOUT_S = 30.0
_POLL_S = 0.05
_RESTART_S = 10.0
_PR_SET_PDEATHSIG = 1

_TRAIN_NICENESS = 10


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "repository",
        nargs="*",
        metavar="REPO",
        help="path or URL of a git repository, or name of a configured one (default: all of those)",
    )
    parser.add_argument("--no-train", action="store_true", help="index and serve only")
    add_flags(parser, (INDEX, TRAIN, SERVE))


def run(args: argparse.Namespace) -> int:
    loaded = settings_from_args(args)
    settings, sources = loaded.settings, arguments(loaded, args.repository)
    data = DataDir(settings.data_root)
    stop = _StopRequest()
    children = _Children(settings, args.config, stop)
    with locked(data.locks / "up.lock", "homespun up"), _server(children, data, stop) as (server, url):
        _say(f"serving on {url} (base model; snippets and adapter follow)")
        statuses = {source: children.run("index", source) for source in sources}
        if all(statuses.values()):
            return next(iter(statuses.values()))
        for source in sources if not args.no_train else ():
            if statuses[source] == 0 and (status := children.run("train", source)) != 0:
                _say(f"training ended with status {status}; serving goes on without a new adapter")
        _show_editors(url)
        return _keep_going(server, children, data, sources, stop)


def arguments(loaded: LoadedSettings, given: Sequence[str]) -> list[str]:
    """What our children are given for these sources or names, in arguments that everybody on the machine can read.

    They find a configured repository without the credentials in its URL. One that isn't configured stays as it was
    typed, in our own arguments.
    """
    chosen = loaded.chosen(given)
    return [hide_credentials(r.source) if r in loaded.repositories else r.source for r in chosen]


def _keep_going(
    server: subprocess.Popen[bytes],
    children: _Children,
    data: DataDir,
    sources: Sequence[str],
    stop: _StopRequest,
) -> int:
    """Serve and watch until we are asked to stop; returns 0. Raises ServiceError when the server ends by itself."""
    log = data.root / "logs" / "index.log"
    while True:
        with children.background("index", ["--watch"], sources, log) as watcher:
            ended = stop.wait(server, watcher)
        if ended is None:
            _say("stopping")
            return 0
        if ended is server:
            raise ServiceError(f"the server ended unexpectedly; see {data.root / 'logs' / 'server.log'}")
        _say(f"the process that keeps the index fresh has ended; starting it again in {_RESTART_S:.0f} s (see {log})")
        stop.wait(server, timeout_s=_RESTART_S)


class _StopRequest:
    """SIGINT and SIGTERM as a question that waits ask.

    An exception from a signal handler gets lost where Python ignores exceptions (in a finaliser), and a signal that
    comes just before a blocking wait doesn't end it. A test saw one lost.
    """

    def __init__(self) -> None:
        self.is_made = False
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._note)

    def wait(self, *processes: subprocess.Popen[bytes], timeout_s: float = math.inf) -> subprocess.Popen[bytes] | None:
        """The first process that ends; None when we are asked to stop before, or time is up."""
        deadline = time.monotonic() + timeout_s
        while not self.is_made and time.monotonic() < deadline:
            for process in processes:
                if process.poll() is not None:
                    return process
            time.sleep(_POLL_S)
        return None

    def _note(self, _number: int, _frame: FrameType | None) -> None:
        self.is_made = True


class _Children:
    """Starts `homespun` verbs as child processes with the settings `up` was given."""

    def __init__(self, settings: Settings, config: Path | None, stop: _StopRequest) -> None:
        self._settings, self._stop_request = settings, stop
        self._config = ["--config", str(config)] if config else []
        self._environ = dict(os.environ)
        secrets = {"HOMESPUN_API_TOKEN": settings.api_token, "HOMESPUN_VLLM_TOKEN": settings.vllm_token}
        self._environ |= {name: value for name, value in secrets.items() if value}

    def run(self, verb: str, source: str) -> int:
        """Run a verb to its end on our terminal; returns its exit status. Raises KeyboardInterrupt."""
        process = self._start(verb, [], [source], None)
        if self._stop_request.wait(process) is None:
            _stop(process, signal.SIGINT)  # it saves what it has and tidies the terminal
            raise KeyboardInterrupt
        return process.returncode

    @contextmanager
    def background(
        self, verb: str, flags: Sequence[str], sources: Sequence[str], log: Path
    ) -> Iterator[subprocess.Popen[bytes]]:
        """Run a verb beside us for the time of the block, its output in a file."""
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as output:
            process = self._start(verb, flags, sources, output)
            try:
                yield process
            finally:
                _stop(process)

    def _start(
        self, verb: str, flags: Sequence[str], sources: Sequence[str], output: IO[bytes] | None
    ) -> subprocess.Popen[bytes]:
        verbs = {"serve": (SERVE,), "index": (INDEX,), "train": (TRAIN, INDEX)}[verb]
        settings = [*self._config, *as_flags(self._settings, verbs)]
        return subprocess.Popen(
            [
                sys.executable,
                "-m",
                "homespun_core.cli",
                verb,
                *flags,
                *settings,
                *(["--", *sources] if sources else []),
            ],
            env=self._environ,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,  # Ctrl-C reaches us alone, and we stop the others in order
            preexec_fn=_be_nice if verb == "train" else _die_with_parent,
        )


def _die_with_parent() -> None:
    """Have the kernel end this child when `up` dies, even by kill -9: no orphan keeps the port."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _be_nice() -> None:
    _die_with_parent()
    os.nice(_TRAIN_NICENESS)


@contextmanager
def _server(children: _Children, data: DataDir, stop: _StopRequest) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    log = data.root / "logs" / "server.log"
    with children.background("serve", [], [], log) as process:
        yield process, _await_server(process, data, log, stop)


def _await_server(process: subprocess.Popen[bytes], data: DataDir, log: Path, stop: _StopRequest) -> str:
    """The server's URL, once it answers. Raises ServiceError with its last line when it ends before."""
    deadline = time.monotonic() + _START_TIMEOUT_S
    while time.monotonic() < deadline:
        if stop.is_made:
            raise KeyboardInterrupt
        if process.poll() is not None:
            raise ServiceError(_last_line(log) or f"the server ended at once; see {log}")
        url = _announced_url(data, process.pid)
        if url and _answers(url):
            return url
        time.sleep(_POLL_S)
    raise ServiceError(f"the server did not answer within {_START_TIMEOUT_S:.0f} s; see {log}")


def _announced_url(data: DataDir, pid: int) -> str | None:
    try:
        state = json.loads(data.server_state.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return str(state["url"]) if state.get("pid") == pid else None


def _answers(url: str) -> bool:
    try:
        with DIRECT.open(f"{url}/healthz", timeout=2) as response:
            return bool(response.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def _last_line(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return lines[-1].removeprefix("homespun: ") if lines else ""


def _stop(process: subprocess.Popen[bytes], how: signal.Signals = signal.SIGTERM) -> None:
    process.send_signal(how)  # nothing happens when it has ended
    try:
        process.wait(_STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _show_editors(url: str) -> None:
    _say(f"ready on {url}; point your editor at it:")
    print("  Neovim 0.12    see lsp/editors/neovim/")
    print(f"  any LSP editor command: homespun lsp --server-url {url}")
    print(f"  plain HTTP     POST {url}/v1/completions  (OpenAI and Tabby request shapes)")
    print("  Ctrl-C stops; everything finished is kept in the data directory", flush=True)


def _say(line: str) -> None:
    print(f"homespun: {line}", flush=True)
