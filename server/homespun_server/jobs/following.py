"""A job that somebody waits for, told on their terminal: its log as it grows, and how far it is."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from homespun_server.jobs.client import WorkerClient

_EVERY_S = 10.0


def print_line(line: str) -> None:
    print(line, flush=True)


class FollowedClient(WorkerClient):
    """Whoever asks for a job's state sees on the way what is new of it."""

    def __init__(self, url: str, token: str, say: Callable[[str], None] = print_line) -> None:
        super().__init__(url, token)
        self._say = say
        self._logs: dict[int, str] = {}
        self._said: dict[int, tuple[str, float]] = {}

    def job(self, id: int) -> dict[str, Any]:
        """Its state first: what a job that has ended printed is all there then."""
        job = super().job(id)
        log, before = self.log(id), self._logs.get(id, "")
        for line in log[overlap(before, log) :].splitlines():
            self._say(line)
        self._logs[id] = log
        if id not in self._said:
            self._say(f"homespun: job {id}: cancel it with: homespun jobs cancel {id}")
        self._tell_step(job)
        return job

    def _tell_step(self, job: Mapping[str, Any]) -> None:
        """A line for each step, and one now and then."""
        now, words = time.monotonic(), str(job["words"])
        before, at = self._said.setdefault(job["id"], ("", now))
        if job["state"] != "running" or not words or ((words == before or now - at < _EVERY_S) and before):
            return
        share = "" if job["fraction"] is None else f" ({job['fraction']:.0%})"
        left = "" if job["eta_s"] is None else f", about {job['eta_s']:.0f} s left"
        self._say(f"homespun: job {job['id']}: {words}{share}{left}")
        self._said[job["id"]] = words, now


def overlap(before: str, now: str) -> int:
    """How much of a log was there before: its beginning falls away as it grows."""
    if now.startswith(before):
        return len(before)
    return next((len(before) - i for i in range(1, len(before)) if now.startswith(before[i:])), 0)
