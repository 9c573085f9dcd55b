"""A job as a `homespun` verb in a process group of its own: what it prints, how far it is, and how it ended."""

from __future__ import annotations

import json
import os
import re
import signal
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import IO, Any

from homespun_core.children import Children
from homespun_core.cli import BUSY
from homespun_core.paths import hide_credentials
from homespun_core.personal import owner_of
from homespun_server.jobs.states import Ending
from homespun_server.jobs.store import Step

_LINES = 300
_LINE_CHARACTERS = 400
_RESULT_CHARACTERS = 4_000
_BUSY_PAUSE_S = 15.0
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_WRONG_USAGE = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """What to report."""

    ending: Ending
    reason: str = ""
    pause_s: float | None = None


def command(job: Mapping[str, Any]) -> tuple[str, list[str]]:
    """Verb and flags. An index is always of the newest there is, whatever commit was pushed."""
    if job["kind"] == "index":
        return "index", [f"--lease={job['fence']}"]
    if job["kind"] == "train":
        commit = [f"--commit={job['commit']}"] if job["commit"] else []
        owner = owner_of(job["repository"])
        return "train", [f"--lease={job['fence']}", *commit, *([f"--for={owner}"] if owner else [])]
    return "eval", []


class RunningJob:
    """Both of its streams are read to their end all the time, so that it never waits for us."""

    def __init__(self, job: Mapping[str, Any], children: Children) -> None:
        verb, flags = command(job)
        self.process = children.piped(verb, flags, [str(job["source"])])
        self._lock = threading.Lock()
        self._step = Step()
        self._unsent: deque[str] = deque(maxlen=_LINES)
        self._result: deque[str] = deque(maxlen=_LINES)
        self._complaint = ""
        assert self.process.stdout is not None and self.process.stderr is not None
        self._readers = [
            threading.Thread(target=self._read, args=(self.process.stdout, self._said), daemon=True),
            threading.Thread(target=self._read, args=(self.process.stderr, self._complained), daemon=True),
        ]
        for reader in self._readers:
            reader.start()

    def news(self) -> tuple[Step, list[str]]:
        """How far it is, and the lines since the last time."""
        with self._lock:
            lines = list(self._unsent)
            self._unsent.clear()
            return self._step, lines

    def ask_to_end(self) -> None:
        """As Ctrl-C would: it saves what it has."""
        self.process.send_signal(signal.SIGINT)

    def kill(self) -> None:
        """With all it has started."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        for reader in self._readers:
            reader.join()

    def ended(self) -> Ended:
        """Of a process that has ended by itself."""
        self.kill()  # what it may have left behind, which would keep the streams open
        return ended(self.process.returncode, self._complaint)

    @property
    def result(self) -> str:
        """Its own words: the end of what it printed."""
        return "\n".join(self._result)[-_RESULT_CHARACTERS:]

    def _read(self, stream: IO[bytes], hear: Any) -> None:
        with stream:
            for raw in iter(lambda: stream.readline(64_000), b""):
                hear(raw.decode("utf-8", "replace").rstrip())

    def _said(self, line: str) -> None:
        with self._lock:
            self._result.append(clean(line))
            self._unsent.append(clean(line))

    def _complained(self, line: str) -> None:
        step = progress(line)
        with self._lock:
            if step is not None:
                self._step = step[0]
                self._unsent.extend([step[1]] if step[1] else [])
            elif line:
                self._complaint = clean(line).removeprefix("homespun: ")
                self._unsent.append(clean(line))


def ended(status: int, complaint: str) -> Ended:
    if status == 0:
        return Ended(ending="done")
    if status == BUSY:
        return Ended(ending="given-back", reason=complaint, pause_s=_BUSY_PAUSE_S)
    if status == _WRONG_USAGE:
        return Ended(ending="impossible", reason=complaint)
    if status < 0:
        name = signal.Signals(-status).name
        why = " (was there too little memory?)" if name == "SIGKILL" else ""
        return Ended(ending="failed", reason=f"killed by {name}{why}")
    return Ended(ending="failed", reason=complaint or f"ended with status {status}")


def progress(line: str) -> tuple[Step, str] | None:
    """The step that a line of JSON progress tells of, and a line for the log when it has ended. None of other lines."""
    if not line.startswith("{"):
        return None
    try:
        told = json.loads(line)
        label, done, total, unit = clean(str(told["step"])), told["done"], told["total"], told["unit"]
        amount = f"{done:,} of {total:,} {unit}".rstrip() if total and done is not None else ""
        words = ": ".join(filter(None, (label, amount, clean(str(told["note"])))))
        step = Step(fraction=min(1.0, max(0.0, done / total)) if total and done is not None else None, words=words)
        if "took_s" in told:
            return replace(step, fraction=1.0), f"{words}, {told['took_s']:.1f} s"
        return replace(step, eta_s=told.get("eta_s")), ""
    except (ValueError, KeyError, TypeError):
        return None


def clean(line: str) -> str:
    """Of a process that reads what anybody may have written: no control characters, no credentials, no end."""
    return _CONTROL.sub("", hide_credentials(line))[:_LINE_CHARACTERS]


def as_report(job: Mapping[str, Any], end: Ended, result: str, log: Sequence[str]) -> dict[str, Any]:
    return {
        "job": job["id"],
        "fence": job["fence"],
        "ending": end.ending,
        "reason": end.reason[:2_000],
        "result": result,
        "log": list(log),
        "pause_s": end.pause_s,
    }
