"""Training that a worker does: asked for, waited for, and stopped when the hours are over."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from homespun_core.children import StopRequest
from homespun_core.cli import INTERRUPTED
from homespun_core.errors import ServiceError
from homespun_trainer.retrain import loop


class Queue:
    """Says of its job what it is told to, one look after the other; an exception is raised."""

    def __init__(self, *states: str | Exception) -> None:
        self._states = list(states)
        self.asked: list[tuple[str, str, str | None]] = []
        self.is_cancelled = False

    def ask(self, kind: str, repository: str, commit: str | None) -> dict[str, Any]:
        self.asked.append((kind, repository, commit))
        return {"id": 7}

    def job(self, id: int) -> dict[str, Any]:
        state = self._states.pop(0)
        if isinstance(state, Exception):
            raise state
        return {"id": id, "state": "cancelled" if self.is_cancelled else state, "is_unwanted": self.is_cancelled}

    def cancel(self, id: int) -> None:
        self.is_cancelled = True


@pytest.fixture
def request_to_stop(monkeypatch: pytest.MonkeyPatch) -> StopRequest:
    monkeypatch.setattr(loop, "_LOOK_S", 0.01)
    assert threading.current_thread() is threading.main_thread()
    return StopRequest()


@pytest.mark.parametrize(("state", "status"), [("done", 0), ("failed", 1), ("poisoned", 1), ("cancelled", INTERRUPTED)])
def test_the_end_of_the_job_is_the_end_of_the_run(state: str, status: int, request_to_stop: StopRequest) -> None:
    queue = Queue("queued", "running", state)
    assert loop.train_by_worker(queue, request_to_stop)("shop", "abc", lambda: False) == status
    assert queue.asked == [("train", "shop", "abc")]


def test_a_server_that_restarts_is_waited_for(request_to_stop: StopRequest) -> None:
    queue = Queue("running", ServiceError("away"), ServiceError("away"), "done")
    assert loop.train_by_worker(queue, request_to_stop)("shop", "abc", lambda: False) == 0
    assert len(queue.asked) == 1


def test_when_the_hours_are_over_the_job_is_cancelled_and_the_run_paused(request_to_stop: StopRequest) -> None:
    queue = Queue("running", "running")
    assert loop.train_by_worker(queue, request_to_stop)("shop", "abc", lambda: True) is None
    assert queue.is_cancelled


def test_asked_to_stop_it_leaves_the_job_to_its_worker(request_to_stop: StopRequest) -> None:
    request_to_stop.is_made = True
    queue = Queue("running")
    with pytest.raises(KeyboardInterrupt):
        loop.train_by_worker(queue, request_to_stop)("shop", "abc", lambda: False)
    assert not queue.is_cancelled
