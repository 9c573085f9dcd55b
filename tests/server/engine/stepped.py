"""The engine without its thread: a test takes the turns, so that what happens can be repeated."""

from __future__ import annotations

import queue
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from homespun_core.errors import HomespunError
from homespun_server.engine.decoders.protocol import Segment
from homespun_server.engine.jobs import Event, Job
from homespun_server.engine.protocol import EngineRequest
from homespun_server.engine.torch_engine import TorchEngine
from tests.server.engine.hash_decoder import (
    FLAT,
    HashDecoder,
    HashSource,
)


class Stepped(TorchEngine):
    """Its thread does nothing; the test takes the turns."""

    def __init__(self, source: HashSource | None = None, **options: Any) -> None:
        self.source = source or HashSource()
        defaults: dict[str, Any] = {"costs": FLAT, "max_queue": 100}
        super().__init__(Path(), source=self.source, **(defaults | options))

    def _work(self) -> None:
        pass

    @property
    def base(self) -> HashDecoder:
        return self.source.made[0]

    @torch.inference_mode()
    def turn(self) -> bool:
        if not self._live:
            return False
        self._shelf.close()  # what is being loaded is there, or isn't, by the next turn
        self._has_taken_in(False)
        self._turns.turn()
        return True

    def ask(self, ids: Sequence[int], max_new_tokens: int = 8, **changes: Any) -> Asked:
        return Asked(self, EngineRequest(ids=ids, max_new_tokens=max_new_tokens, **changes))

    def finish(self) -> None:
        for _ in range(5000):
            if not self.turn():
                return
        raise AssertionError("a request is stuck")


class Asked:
    def __init__(self, engine: Stepped, request: EngineRequest) -> None:
        self.request = request
        self._events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self.job: Job = engine._enqueue(request, self._events.put)
        self.ids: list[int] = []
        self.error: HomespunError | None = None
        self.has_ended = False

    def read(self) -> Asked:
        while not self._events.empty():
            event = self._events.get()
            assert not self.has_ended
            if isinstance(event, list):
                self.ids += [token.id for token in event]
            else:
                self.error, self.has_ended = event, True
        return self

    @property
    def reason(self) -> str:
        assert self.read().has_ended
        return "error" if self.error else self.job.run.finish_reason


def fail_once(decoder: HashDecoder) -> None:
    def fail(batch: Sequence[Segment]) -> None:
        decoder.before = lambda batch: None
        raise RuntimeError("no memory left")

    decoder.before = fail
