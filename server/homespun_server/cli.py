"""`homespun serve`."""

from __future__ import annotations

import argparse
import errno
import json
import logging
import os
import signal
import socket
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import uvicorn

from homespun_core import storage
from homespun_core.config import SERVE, Settings
from homespun_core.errors import ServiceError, unless_read_only
from homespun_core.forges import ForgeConfig
from homespun_core.loading import add_flags, settings_from_args
from homespun_core.logs import configure_logging
from homespun_core.notify import NotifyConfig
from homespun_core.paths import DataDir
from homespun_core.prompt_versions import PromptVersion
from homespun_core.scopes import ScopeConfig
from homespun_indexer import forgotten
from homespun_indexer.model_files import resolve_base_model
from homespun_server import open_files
from homespun_server.app import build_app
from homespun_server.connections import Connection
from homespun_server.jobs.targets import Targets
from homespun_server.runtime import Runtime
from homespun_trainer.forget.effects import take_rest_away

logger = logging.getLogger(__name__)

_DRAIN_S = 5


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_flags(parser, (SERVE,))


def run(args: argparse.Namespace) -> int:
    loaded = settings_from_args(args)
    configure_logging(loaded.settings.log_level, loaded.settings.log_format)
    if loaded.sources:
        logger.info("settings: %s", ", ".join(f"{name} from {origin}" for name, origin in loaded.sources.items()))
    targets = Targets(DataDir(loaded.settings.data_root), loaded.repositories, loaded.scopes)
    return serve(loaded.settings, loaded.scopes, targets, loaded.notify, loaded.sources, loaded.forges, loaded.prompts)


def serve(
    settings: Settings,
    scopes: Sequence[ScopeConfig] = (),
    targets: Targets | None = None,
    notify: Sequence[NotifyConfig] = (),
    origins: Mapping[str, str] | None = None,
    forges: Sequence[ForgeConfig] = (),
    prompts: Sequence[PromptVersion] = (),
) -> int:
    """Answer requests until SIGTERM or SIGINT; what is in flight then is finished. Raises HomespunError."""
    open_files.raise_limit()
    model = resolve_base_model(settings.base_model, settings.fim_family)
    data = DataDir(settings.data_root)
    for problem in forgotten.finish_all(data, partial(take_rest_away, data)):
        logger.warning("not all that is to be forgotten is gone; the next start goes on: %s", problem)
    with _bound(settings) as listener:
        url = _url(settings.host, listener.getsockname()[1])
        options = uvicorn.Config(
            "", log_config=None, access_log=False, http=Connection, timeout_graceful_shutdown=_DRAIN_S
        )
        server = uvicorn.Server(options)
        failures: list[str] = []

        def on_loaded(runtime: Runtime) -> None:
            if runtime.error is None:
                print(f"homespun is ready: {url}", flush=True)
            else:
                failures.append(runtime.error)
                server.should_exit = True

        options.app = app = build_app(
            settings,
            model,
            on_loaded=on_loaded,
            scopes=scopes,
            targets=targets,
            notify=notify,
            origins=origins,
            forges=forges,
            prompts=prompts,
        )
        app.state.is_stopping = lambda: server.should_exit
        with _ending_quietly(server), _announced(data, url):
            print(f"homespun listens on {url}, the model is loading", flush=True)
            if (setup := app.state.signin.setup) is not None:
                place = settings.public_url.rstrip("/") or url
                print(f"homespun set-up: open {place}/setup and enter {setup.shown} within the hour", flush=True)
            server.run(sockets=[listener])
    if failures:
        print(f"homespun: {failures[0]}", file=sys.stderr)
        return 1
    return 0


@contextmanager
def _bound(settings: Settings) -> Iterator[socket.socket]:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((settings.host, settings.port))
            listener.listen(128)
        except OSError as error:
            raise _bind_error(settings, error) from error
        yield listener


def _bind_error(settings: Settings, error: OSError) -> ServiceError:
    place = f"port {settings.port} on {settings.host}"
    if error.errno == errno.EADDRINUSE:
        return ServiceError(
            f"{place} is in use; stop what listens there, or choose another with --port (0: a free one)"
        )
    if error.errno == errno.EACCES:
        return ServiceError(f"{place} needs more rights than this process has; choose one above 1023 with --port")
    return ServiceError(f"{place} can't be opened ({error.strerror or error}); check --host and --port")


@contextmanager
def _announced(data: DataDir, url: str) -> Iterator[None]:
    """The state file is there while the server is."""
    path = data.server_state
    with unless_read_only(f"commands don't find the server by {path}; give them --server-url"):
        storage.write_atomic(path, json.dumps({"url": url, "pid": os.getpid()}) + "\n")
    try:
        yield
    finally:
        if _is_ours(path):
            path.unlink(missing_ok=True)


def _is_ours(path: Path) -> bool:
    """Another server may have announced itself on the same data directory meanwhile."""
    try:
        state = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(state, dict) and state.get("pid") == os.getpid()


@contextmanager
def _ending_quietly(server: uvicorn.Server) -> Iterator[None]:
    """uvicorn drains on a signal and then raises it once more; here that means a clean end, not death by signal."""

    def end(number: int, frame: object) -> None:
        server.should_exit = True

    before = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _url(host: str, port: int) -> str:
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
