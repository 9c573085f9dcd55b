"""`homespun up`: the whole job on one machine, as the processes a larger installation would run apart.

    homespun serve     answers from the first second: base model, then with the index, then with the adapter
    homespun index     makes the repository searchable; afterwards keeps watching it
    homespun retrain   asks for an adapter, at once and whenever enough has changed; the gate decides about it
    homespun worker    does what is asked for by retrain, a page, a hook or `homespun jobs`

They meet in the data directory and the server's queue only, so each can be stopped, killed or run by hand without the
others.
"""

from __future__ import annotations

import argparse
import json
import socket
import subprocess
import time
import urllib.error
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from homespun_core.children import Children, StopRequest, sources_as_arguments, stop
from homespun_core.config import INDEX, RETRAIN, SERVE, TRAIN
from homespun_core.errors import ServiceError
from homespun_core.loading import add_flags, settings_from_args
from homespun_core.paths import DataDir
from homespun_core.storage import locked
from homespun_server.signin.setup import CODE_FILE
from homespun_server.status import DIRECT

_START_TIMEOUT_S = 120.0
_POLL_S = 0.05
_RESTART_S = 10.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "repository",
        nargs="*",
        metavar="REPO",
        help="path or URL of a git repository, or name of a configured one (default: all of those)",
    )
    parser.add_argument("--no-train", action="store_true", help="index and serve only")
    add_flags(parser, (INDEX, TRAIN, RETRAIN, SERVE))


def run(args: argparse.Namespace) -> int:
    loaded = settings_from_args(args)
    settings, sources = loaded.settings, sources_as_arguments(loaded, args.repository)
    data = DataDir(settings.data_root)
    request = StopRequest()
    children = Children(settings, args.config, request)
    with ExitStack() as stack:
        stack.enter_context(locked(data.locks / "up.lock", "homespun up"))
        server, url = stack.enter_context(_server(children, data, request))
        _say(f"serving on {url} (base model; snippets and adapter follow)")
        if (data.root / CODE_FILE).exists():
            _say(f"set-up: open {url}/setup and enter the code in {data.root / CODE_FILE} within the hour")
        beside = Children(replace(settings, server_url=url), args.config, request)
        background = stack.enter_context(_background(beside, data, sources))
        background.start(_WORKING)
        statuses = _indexed(children, sources)
        if all(statuses.values()):
            return next(iter(statuses.values()))
        for source in sources if not args.no_train else ():
            if statuses[source] == 0 and (status := beside.run("retrain", [source], _FIRST_TRAINING)) != 0:
                _say(f"training ended with status {status}; serving goes on without a new adapter")
        _show_editors(url)
        for work in [_FRESH] if args.no_train else [_FRESH, _RETRAINING]:
            background.start(work)
        return _keep_going(server, background, data, request)


def _indexed(children: Children, sources: Sequence[str]) -> dict[str, int]:
    """Exit statuses by source: side by side first, and where that fails each by itself, to learn which it was."""
    if len(sources) > 1 and children.run("index", sources) == 0:
        return dict.fromkeys(sources, 0)
    return {source: children.run("index", [source]) for source in sources}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Work:
    """A verb that works as long as we do. It is started again when it ends."""

    verb: str
    flags: tuple[str, ...]
    what: str
    has_sources: bool = True


_WORKING = _Work(
    verb="worker", flags=(f"--name={socket.gethostname()}:up",), what="does what is asked for", has_sources=False
)
_FIRST_TRAINING = ("--no-fetch", "--no-drift", "--jobs")
_FRESH = _Work(verb="index", flags=("--watch",), what="keeps the index fresh")
_RETRAINING = _Work(verb="retrain", flags=("--watch", "--no-fetch", "--jobs"), what="decides when to train again")


class _Background:
    def __init__(self, children: Children, data: DataDir, sources: Sequence[str]) -> None:
        self._children, self._data, self._sources = children, data, sources
        self._running: dict[subprocess.Popen[bytes], _Work] = {}

    def start(self, work: _Work) -> None:
        sources = self._sources if work.has_sources else ()
        self._running[self._children.start(work.verb, work.flags, sources, self._data.log(work.verb))] = work

    @property
    def processes(self) -> list[subprocess.Popen[bytes]]:
        return list(self._running)

    def ended(self, process: subprocess.Popen[bytes]) -> _Work:
        return self._running.pop(process)

    def close(self) -> None:
        for process in self._running:
            process.terminate()
        for process in self._running:
            stop(process)


@contextmanager
def _background(children: Children, data: DataDir, sources: Sequence[str]) -> Iterator[_Background]:
    background = _Background(children, data, sources)
    try:
        yield background
    finally:
        background.close()


def _keep_going(server: subprocess.Popen[bytes], background: _Background, data: DataDir, request: StopRequest) -> int:
    """Serve and watch until we are asked to stop; returns 0. Raises ServiceError when the server ends by itself."""
    while True:
        ended = request.wait(server, *background.processes)
        if ended is None:
            _say("stopping")
            return 0
        if ended is server:
            raise ServiceError(f"the server ended unexpectedly; see {data.log('server')}")
        work = background.ended(ended)
        _say(f"the process that {work.what} has ended; again in {_RESTART_S:.0f} s (see {data.log(work.verb)})")
        request.wait(server, timeout_s=_RESTART_S)
        background.start(work)


@contextmanager
def _server(children: Children, data: DataDir, request: StopRequest) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    log = data.log("server")
    process = children.start("serve", [], [], log)
    try:
        yield process, _await_server(process, data, log, request)
    finally:
        stop(process)


def _await_server(process: subprocess.Popen[bytes], data: DataDir, log: Path, request: StopRequest) -> str:
    """The server's URL, once it answers. Raises ServiceError with its last line when it ends before."""
    deadline = time.monotonic() + _START_TIMEOUT_S
    while time.monotonic() < deadline:
        if request.is_made:
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


def _show_editors(url: str) -> None:
    _say(f"ready on {url}; point your editor at it:")
    print("  VS Code, Neovim, Emacs, others: see lsp/editors/README.md")
    print(f"  any LSP editor command: homespun lsp --server-url {url}")
    print(f"  web console    {url}/console")
    print(f"  plain HTTP     POST {url}/v1/completions  (OpenAI and Tabby request shapes)")
    print("  Ctrl-C stops; everything finished is kept in the data directory", flush=True)


def _say(line: str) -> None:
    print(f"homespun: {line}", flush=True)
