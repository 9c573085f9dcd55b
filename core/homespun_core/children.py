"""`homespun` verbs as child processes: of `up`, which starts them all, of `retrain`, which starts training, and of
`serve`, which trains its show/hide filter."""

from __future__ import annotations

import ctypes
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from types import FrameType
from typing import IO

from homespun_core.config import EVAL, INDEX, RETRAIN, SERVE, TRAIN, WORKER, Settings
from homespun_core.loading import LoadedSettings, as_flags
from homespun_core.paths import hide_credentials

_STOP_TIMEOUT_S = 30.0
_POLL_S = 0.05
_PR_SET_PDEATHSIG = 1
_BACKGROUND_NICENESS = 10
_SETTINGS = {
    "serve": (SERVE,),
    "index": (INDEX,),
    "train": (TRAIN, INDEX),
    "eval": (EVAL, INDEX),
    "retrain": (RETRAIN, TRAIN, INDEX),
    "worker": (WORKER, INDEX, TRAIN, EVAL),
    "feedback": (SERVE,),
}
_BACKGROUND = ("train", "retrain", "eval", "feedback")
_SECRETS = (
    "api_token",
    "database_url",
    "oidc_client_secret",
    "scim_token",
    "vllm_token",
    "webhook_secret",
    "worker_token",
)


class StopRequest:
    """SIGINT and SIGTERM as a question that waits ask.

    An exception from a signal handler gets lost where Python ignores exceptions (in a finaliser), and a signal that
    comes just before a blocking wait doesn't end it. A test saw one lost.
    """

    def __init__(self) -> None:
        self.is_made = False
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._note)

    def wait(
        self,
        *processes: subprocess.Popen[bytes],
        timeout_s: float = math.inf,
        until: Callable[[], bool] = lambda: False,
    ) -> subprocess.Popen[bytes] | None:
        """The first process that ends; None when we are asked to stop before, time is up, or `until` comes true."""
        deadline = time.monotonic() + timeout_s
        while not self.is_made and time.monotonic() < deadline and not until():
            for process in processes:
                if process.poll() is not None:
                    return process
            time.sleep(_POLL_S)
        return None

    def _note(self, _number: int, _frame: FrameType | None) -> None:
        self.is_made = True


class Children:
    """Starts `homespun` verbs as child processes with our settings. They die with us, even by kill -9."""

    def __init__(self, settings: Settings, config: Path | None, stop: StopRequest | None = None) -> None:
        """Only with a `stop` verbs can be run to their end; others are started."""
        self._settings, self._stop_request = settings, stop
        self._config = ["--config", str(config)] if config else []
        secrets = {f"HOMESPUN_{name.upper()}": getattr(settings, name) for name in _SECRETS}
        self._environ = dict(os.environ) | {name: value for name, value in secrets.items() if value}

    def run(self, verb: str, sources: Sequence[str], flags: Sequence[str] = ()) -> int:
        """Run a verb to its end on our terminal; returns its exit status. Raises KeyboardInterrupt when we are asked to
        stop."""
        status = self.run_until(lambda: False, verb, sources, flags)
        assert status is not None
        return status

    def run_until(
        self, is_enough: Callable[[], bool], verb: str, sources: Sequence[str], flags: Sequence[str] = ()
    ) -> int | None:
        """The same, and None when `is_enough` came true before the verb ended, which was stopped then."""
        assert self._stop_request is not None
        process = self.start(verb, flags, sources)
        if self._stop_request.wait(process, until=is_enough) is not None:
            return process.returncode
        stop(process, signal.SIGINT)  # it saves what it has and tidies the terminal
        if self._stop_request.is_made:
            raise KeyboardInterrupt
        return None

    def start(
        self, verb: str, flags: Sequence[str], sources: Sequence[str], log: Path | None = None
    ) -> subprocess.Popen[bytes]:
        """Start a verb beside us, its output added to a file if one is given. To be ended with `stop`."""
        if log is None:
            return self._popen(verb, flags, sources, None)
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as output:
            return self._popen(verb, flags, sources, output)

    def piped(self, verb: str, flags: Sequence[str], sources: Sequence[str]) -> subprocess.Popen[bytes]:
        """The same, with what it prints in pipes: to be read all the time."""
        return self._popen(verb, flags, sources, subprocess.PIPE)

    def _popen(
        self, verb: str, flags: Sequence[str], sources: Sequence[str], output: IO[bytes] | int | None
    ) -> subprocess.Popen[bytes]:
        settings = [*self._config, *as_flags(self._settings, _SETTINGS[verb])]
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
            preexec_fn=partial(_be_nice if verb in _BACKGROUND else end_with_parent, os.getpid()),
        )


def stop(process: subprocess.Popen[bytes], how: signal.Signals = signal.SIGTERM) -> None:
    process.send_signal(how)  # nothing happens when it has ended
    try:
        process.wait(_STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def sources_as_arguments(loaded: LoadedSettings, given: Sequence[str]) -> list[str]:
    """What children are given for these sources or names, in arguments that everybody on the machine can read.

    They find a configured repository without the credentials in its URL. One that isn't configured stays as it was
    typed, in our own arguments.
    """
    chosen = loaded.chosen(given)
    return [hide_credentials(r.source) if r in loaded.repositories else r.source for r in chosen]


def end_with_parent(parent: int) -> None:
    """In a child, before it becomes another program: the kernel is to end it when its parent dies, even by kill -9. No
    orphan keeps the port."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:  # it died before the kernel knew: seen once, a watcher that nobody ended
        os._exit(1)


def _be_nice(parent: int) -> None:
    end_with_parent(parent)
    os.nice(max(0, _BACKGROUND_NICENESS - os.nice(0)))  # a nice parent's child is nice already
