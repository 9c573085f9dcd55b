"""Somebody sets the clock of the server's machine while it works (row 34). Workers, and we, keep the right time."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from homespun_core.paths import DataDir
from homespun_server.access.audit import Actor
from homespun_server.access.changing import changing
from homespun_server.database.opening import open_database
from tests.e2e.command import running
from tests.faults.machine import BODY

pytestmark = [pytest.mark.e2e, pytest.mark.faults]
LIBRARIES = sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
_PATIENCE_S = 60.0


class Site:
    def __init__(self, url: str, worker_token: str) -> None:
        self._url, self._worker = url, worker_token

    def status(self, token: str) -> int:
        """Of a completion."""
        return self._asked("completions", token, BODY).status_code

    def job(self, what: str, **body: Any) -> Any:
        answer = self._asked(f"homespun/jobs/{what}", self._worker, body)
        assert answer.is_success, answer.text
        return answer.json()

    @property
    def due(self) -> int:
        headers = {"Authorization": f"Bearer {self._worker}"}
        return int(httpx.get(f"{self._url}/v1/homespun/jobs/due?kind=index", headers=headers).json()["due"])

    def becomes(self, expected: int, token: str) -> None:
        deadline = time.monotonic() + _PATIENCE_S
        while (status := self.status(token)) != expected:
            assert time.monotonic() < deadline, status
            time.sleep(0.1)

    def _asked(self, path: str, token: str, body: Any) -> httpx.Response:
        headers = {"Authorization": f"Bearer {token}"}
        return httpx.post(f"{self._url}/v1/{path}", json=body, headers=headers, timeout=60)


def tokens(data: Path, *expiries: float | None) -> list[str]:
    engine = open_database("", DataDir(data).database)
    with changing(engine, Actor(id="cli:test", origin="cli")) as change:
        change.add_user("root", role="admin")
        ada = change.add_user("ada")
        made = [change.add_token(ada, "editor", scopes=["complete"], expires=expires).text for expires in expiries]
    engine.dispose()
    return made


@pytest.mark.timeout(300)  # half a minute where nobody else uses the machine
@pytest.mark.skipif(not LIBRARIES, reason="libfaketime isn't here; on Debian: apt-get install libfaketime")
def test_a_clock_that_is_set_ends_tokens_and_no_lease(tmp_path: Path) -> None:
    clock = tmp_path / "clock"
    clock.write_text("+0d\n")
    ends, stays = tokens(tmp_path / "data", time.time() + 86_400, None)
    faked = {
        "LD_PRELOAD": str(LIBRARIES[-1]),
        "FAKETIME_TIMESTAMP_FILE": str(clock),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }
    prefix = ["env", *(f"{name}={value}" for name, value in faked.items())]
    words = ("serve", "--port=0", "--data-dir=data", "--job-lease-s=300")
    with running(*words, cwd=tmp_path, prefix=prefix) as server:
        url = server.wait_for("homespun is ready: ").split()[-1]
        site = Site(url, (tmp_path / "data" / "worker.token").read_text().strip())
        for number in range(3):  # nobody fetches from there
            site.job("ask", kind="index", repository=f"https://git.example.com/team/{number}.git")
        job = site.job("lease", worker="w", kinds=["index"])
        lease = {"job": job["id"], "fence": job["fence"]}
        assert (site.status(ends), site.status(stays), site.due) == (200, 200, 2)

        clock.write_text("+400d\n")
        site.becomes(401, ends)
        assert site.status(stays) == 200
        time.sleep(6)  # the queue is tidied every 5 s
        assert site.job("heartbeat", **lease) == {"is_unwanted": False} and site.due == 2

        clock.write_text("-1h\n")
        site.becomes(200, ends)
        time.sleep(6)
        assert site.job("heartbeat", **lease) == {"is_unwanted": False} and site.due == 2
        assert site.job("report", ending="done", **lease)["state"] == "done"
        later = site.job("lease", worker="w", kinds=["index"])
        assert later["id"] != job["id"] and later["fence"] > 0
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(60) == 0
    assert not [line for line in server.lines if "Traceback" in line], os.linesep.join(server.lines)
