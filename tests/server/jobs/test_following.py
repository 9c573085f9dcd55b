"""What somebody who waits for a job sees of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from homespun_server.jobs import client
from homespun_server.jobs.following import FollowedClient

OPEN: dict[str, Any] = {"id": 3, "state": "running", "fraction": 0.5, "eta_s": 60.0, "words": "training"}


def test_lines_come_once_and_steps_with_how_far_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    states = iter([OPEN | {"words": ""}, OPEN, OPEN, OPEN | {"state": "done"}])
    logs: Iterator[str] = iter(["", "loss 2\n", "loss 2\nloss 1\n", "loss 1\nafter | x\n"])
    monkeypatch.setattr(client.WorkerClient, "job", lambda self, id: next(states))
    monkeypatch.setattr(client.WorkerClient, "log", lambda self, id: next(logs))
    said: list[str] = []
    followed = FollowedClient("http://127.0.0.1:1", "t", said.append)
    ends = [followed.job(3)["state"] for _ in range(4)]
    assert ends == ["running"] * 3 + ["done"]
    step = "homespun: job 3: training (50%), about 60 s left"
    assert said == ["homespun: job 3: cancel it with: homespun jobs cancel 3", "loss 2", step, "loss 1", "after | x"]
