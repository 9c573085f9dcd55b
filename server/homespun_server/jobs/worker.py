"""A worker: leases one job after the other, runs it in a child process, and is heard from while it does."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Collection, Mapping
from contextlib import suppress
from typing import Any

from homespun_core.children import Children, StopRequest
from homespun_core.errors import ServiceError
from homespun_server.jobs.client import ServerAway, WorkerClient
from homespun_server.jobs.running import Ended, RunningJob, as_report
from homespun_server.jobs.states import LeaseLost

_LONG_POLL_S = 2.0
"""So long it may take to notice that we are to stop."""
_AWAY_S = 2.0
_SAVING_S = 30.0
_BEATS_PER_LEASE = 6


class Worker:
    def __init__(
        self,
        client: WorkerClient,
        children: Children,
        request: StopRequest,
        *,
        name: str,
        kinds: Collection[str],
        takes_one: bool = False,
    ) -> None:
        """`takes_one`: ends after a job, or at once if there is none."""
        self._client, self._children, self._request = client, children, request
        self._name, self._kinds, self._takes_one = name, kinds, takes_one
        self._is_away = False

    def work(self) -> None:
        """Until we are asked to stop; what is running then is given back."""
        is_over = False
        while not is_over and not self._request.is_made:
            is_over = self._takes_one
            try:
                job = self._client.lease(self._name, self._kinds, _LONG_POLL_S)
            except ServerAway as error:
                self._say_away(error)
                if not is_over:
                    self._request.wait(timeout_s=_AWAY_S)
                continue
            if self._is_away:
                self._is_away = False
                say("the server is there again")
            if job is not None:
                self._do(job)

    def _do(self, job: Mapping[str, Any]) -> None:
        say(f"job {job['id']}: {job['kind']} {job['source']}")
        run = RunningJob(job, self._children)
        try:
            end = self._watched(job, run)
            _, lines = run.news()
            self._report(as_report(job, end, run.result, lines))
            say(f"job {job['id']}: {end.ending}{': ' if end.reason else ''}{end.reason}")
        except LeaseLost as error:
            run.kill()
            say(f"{error}; what it did is dropped")
        finally:
            run.kill()

    def _watched(self, job: Mapping[str, Any], run: RunningJob) -> Ended:
        """How it ended. While the server is away it goes on: only a lease that was given to another ends it."""
        beat_s = job["lease_s"] / _BEATS_PER_LEASE
        while True:
            if self._request.wait(run.process, timeout_s=beat_s) is not None:
                return run.ended()
            if self._request.is_made:
                reason = f"worker {self._name} was stopped"
                return self._stopped(job, run, Ended(ending="given-back", reason=reason, pause_s=0.0))
            if not self._is_wanted(job, run):
                return self._stopped(job, run, Ended(ending="cancelled"))

    def _stopped(self, job: Mapping[str, Any], run: RunningJob, end: Ended) -> Ended:
        """Given time to save what it has, and heard from meanwhile."""
        run.ask_to_end()
        deadline = time.monotonic() + _SAVING_S
        while time.monotonic() < deadline:
            with suppress(subprocess.TimeoutExpired):
                run.process.wait(job["lease_s"] / _BEATS_PER_LEASE)
                break
            self._is_wanted(job, run)
        run.kill()
        return end

    def _is_wanted(self, job: Mapping[str, Any], run: RunningJob) -> bool:
        """Raises LeaseLost."""
        step, lines = run.news()
        sign = {"job": job["id"], "fence": job["fence"], "log": lines}
        sign |= {"fraction": step.fraction, "words": step.words[:200], "eta_s": step.eta_s}
        try:
            return self._client.heartbeat(sign)
        except ServerAway as error:
            self._say_away(error)
            return True

    def _report(self, told: Mapping[str, Any]) -> None:
        """Again and again while the server is away; when we are to stop, once. Raises LeaseLost."""
        while True:
            try:
                self._client.report(told)
                return
            except ServerAway as error:
                self._say_away(error)
                if self._request.is_made:
                    return
                self._request.wait(timeout_s=_AWAY_S)

    def _say_away(self, error: ServiceError) -> None:
        if not self._is_away:
            say(f"{error}; trying again")
        self._is_away = True


def say(line: str) -> None:
    print(f"homespun: {line}", file=sys.stderr, flush=True)
