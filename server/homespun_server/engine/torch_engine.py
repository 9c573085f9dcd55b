"""The embedded engine: a thread that owns the decoders, a bounded queue before it, steps that requests share."""

from __future__ import annotations

import itertools
import logging
import math
import threading
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path

import torch

from homespun_core.errors import HomespunError, ModelError, ServiceError
from homespun_server.engine.budget import StepCosts, can_repeat, lowest, measure_costs, measure_unless
from homespun_server.engine.decode import Run
from homespun_server.engine.decoders.protocol import Decoder
from homespun_server.engine.decoders.source import open_source
from homespun_server.engine.jobs import Collector, EngineStream, Job, Relay, Tell
from homespun_server.engine.protocol import EngineBusyError, EngineLoad, EngineRequest, Generation
from homespun_server.engine.scheduler import RANKS
from homespun_server.engine.shelf import Shelf, Source
from homespun_server.engine.turns import Turns

_WARM = RANKS["warm"]
_STALLED_S = 0.02
"""How often those that wait for weights are looked at; weights that have come wake the engine anyway."""
_AGAIN_S, _MAX_AGAIN_S = 10.0, 3600.0
"""When costs are measured once more; each time after twice as long."""
_PAUSE_S = 1.0
"""But only when there was no work for so long."""


logger = logging.getLogger(__name__)


class TorchEngine:
    """See `protocol.Engine`. `scheduler` decides what goes first, `budget` how much at once, and `turns` does it."""

    def __init__(
        self,
        path: Path,
        *,
        dtype: str = "auto",
        device: str = "auto",
        num_threads: int = 0,
        max_queue: int = 8,
        max_running: int = 8,
        kv_bytes: int = 512 << 20,
        adapter_bytes: int = 2 << 30,
        source: Source | None = None,
        costs: StepCosts | None = None,
    ) -> None:
        """Loads the model; takes seconds. Raises ModelError.

        source: instead of what is at `path`. costs: instead of measuring, at the start and when there is nothing to do.
        """
        self._source: Source = source if source is not None else open_source(path, dtype, device, num_threads)
        self._lock = threading.Condition()
        self._is_closed = False
        self._arrived, self._dropped = deque[Job](), deque[Decoder]()
        self._live: set[Job] = set()
        self._latest: dict[tuple[str, str], Job] = {}
        self._order = itertools.count()
        self._max_queue, self._max_running = max_queue, max_running
        self._shelf = Shelf(self._source, adapter_bytes, on_load=self._wake, on_drop=self._drop)
        self._facts = self._shelf.base.facts
        self._turns = Turns(
            costs if costs is not None else measure_costs(self._shelf.base),
            max_running=max_running,
            kv_bytes=kv_bytes,
            on_end=self._ended,
        )
        self._again_s = _AGAIN_S if costs is None and can_repeat(self._turns.costs) else math.inf
        self._due, self._is_idle = time.monotonic() + self._again_s, False
        self._thread = threading.Thread(target=self._work, name="engine", daemon=True)
        self._thread.start()

    @property
    def max_context(self) -> int:
        return self._facts.max_context

    @property
    def dtype(self) -> str:
        return str(self._source.format.dtype).removeprefix("torch.")

    @property
    def device(self) -> str:
        return self._source.device.type

    @property
    def can_constrain(self) -> bool:
        return True

    @property
    def num_waiting(self) -> int:
        with self._lock:
            return sum(1 for job in self._live if not job.is_running and not job.is_unwanted)

    @property
    def adapters(self) -> frozenset[str]:
        return self._shelf.names

    @property
    def num_adapter_loads(self) -> int:
        return self._shelf.num_loads

    def load(self) -> EngineLoad:
        with self._lock:
            jobs = [job for job in self._live if not job.is_unwanted and job.rank < _WARM]
        return EngineLoad(
            num_running=sum(1 for job in jobs if job.is_running),
            num_waiting=sum(1 for job in jobs if not job.is_running),
            wait_ms=sum(max(0.0, self._turns.mean_ms - job.engine_ms) for job in jobs),
            step_ms=self._turns.step_ms,
        )

    def submit(self, request: EngineRequest) -> EngineStream:
        relay = Relay()
        return EngineStream(self._enqueue(request, relay.tell), relay)

    def generate(self, request: EngineRequest) -> Generation:
        collector = Collector()
        job = self._enqueue(request, collector.tell)
        return Generation(collector.wait(), job.run.stats())

    def score(self, ids: Sequence[int], start: int, adapter: str | None = None) -> list[float]:
        collector, scores = Collector(), list[float]()
        request = EngineRequest(ids=ids, max_new_tokens=0, adapter=adapter, priority="warm")  # nobody waits for it
        self._enqueue(request, collector.tell, (start, scores))
        collector.wait()
        return scores

    def load_adapter(self, version: str, path: Path) -> None:
        self._shelf.add(version, path)

    def unload_adapter(self, version: str) -> None:
        self._shelf.remove(version)

    def close(self) -> None:
        """Waits for the current step; what is queued or running ends as cancelled."""
        with self._lock:
            self._is_closed = True
            self._lock.notify()
        self._thread.join()
        self._shelf.close()

    def _enqueue(self, request: EngineRequest, tell: Tell, scoring: tuple[int, list[float]] | None = None) -> Job:
        ids = list(request.ids)
        assert ids and request.max_new_tokens >= 0
        if len(ids) + request.max_new_tokens > self.max_context:
            raise ModelError(
                f"{len(ids) + request.max_new_tokens} tokens don't fit the model's context of {self.max_context};"
                " shorten the prompt"
            )
        if not 0 <= min(ids) <= max(ids) < self._facts.vocab_size:
            raise ModelError(f"the prompt has tokens that the model's vocabulary of {self._facts.vocab_size} doesn't")
        run = Run(prompt_tokens=len(ids), queued_at=time.monotonic())
        adapter, order = self._shelf.find(request.adapter), next(self._order)
        job = Job(request=request, adapter=adapter, tell=tell, run=run, order=order, ids=ids, scoring=scoring)
        with self._lock:
            if self._is_closed:
                raise ServiceError("the engine is shut down")
            older = self._latest.get(job.client) if job.client is not None else None
            if scoring is None:
                self._check_room(job, older)
            self._shelf.hold(adapter, waits=self._may_wait(job))
            if older is not None:
                older.is_superseded = True
            if job.client is not None:
                self._latest[job.client] = job
            self._live.add(job)
            self._arrived.append(job)
            self._lock.notify()
        return job

    def _may_wait(self, job: Job) -> bool:
        """Every prompt that waits to be prepared keeps in memory the weights that it waits for."""
        is_filling = job.request.max_new_tokens == 0 and not job.is_alone
        return job.request.waits_for_adapter and (not is_filling or self._shelf.has_room())

    def _check_room(self, job: Job, older: Job | None) -> None:
        """What only fills the cache has a queue of its own, or it would keep others out. An editor that types on leaves
        cancelled requests behind; they don't count."""
        is_warm = job.rank == _WARM
        others = [one for one in self._live if not one.is_unwanted and one is not older]
        num_others = sum(1 for one in others if (one.rank == _WARM) is is_warm and not one.is_alone)
        num_places = self._max_queue + (0 if is_warm else self._max_running)
        if num_others >= num_places:
            wait_ms = sum(max(0.0, self._turns.mean_ms - one.engine_ms) for one in others)
            raise EngineBusyError(max(0, num_others - self._max_running), max(1, math.ceil(wait_ms / 1e3)))

    def _wake(self) -> None:
        with self._lock:
            self._lock.notify()

    def _drop(self, decoder: Decoder) -> None:
        with self._lock:
            self._dropped.append(decoder)
            self._lock.notify()

    def _ended(self, job: Job, error: HomespunError | None) -> None:
        self._shelf.leave(job.adapter)
        with self._lock:
            self._live.discard(job)
            if job.client is not None and self._latest.get(job.client) is job:
                del self._latest[job.client]
        job.tell(error)

    @torch.inference_mode()
    def _work(self) -> None:
        has_stalled = False
        while self._has_taken_in(has_stalled):
            try:
                if self._is_idle:
                    self._measure_again()
                has_stalled = not self._turns.turn()
            except Exception:  # without this thread nothing would ever be completed again, and nobody be told
                logger.exception("a turn of the engine failed; what ran or waited is given up")
                self._turns.end_all(ServiceError("the engine failed; see the server's log"))
        self._turns.end_all(ServiceError("the engine is shut down"))

    def _measure_again(self) -> None:
        """Costs that were measured while something else took the processors made drafts look bad for ever."""
        self._is_idle = False
        costs = measure_unless(self._shelf.base, lambda: bool(self._arrived or self._dropped or self._is_closed))
        if costs is not None:
            self._turns.go_by(lowest(self._turns.costs, costs))
            self._again_s = min(2 * self._again_s, _MAX_AGAIN_S)
            self._due = time.monotonic() + self._again_s

    def _pause_s(self) -> float | None:
        return None if math.isinf(self._due) else max(_PAUSE_S, self._due - time.monotonic())

    def _has_taken_in(self, has_stalled: bool) -> bool:
        """Waits until there is something to do; False when the engine is closed."""
        turns = self._turns
        with self._lock:
            if not (self._arrived or self._dropped or self._is_closed):
                if not turns.running and not turns.waiting:
                    self._is_idle = not self._lock.wait(self._pause_s()) and not self._arrived
                elif has_stalled:
                    self._lock.wait(_STALLED_S)
            while self._arrived:
                turns.take(self._arrived.popleft())
            while self._dropped:
                turns.pool.drop(self._dropped.popleft())
            return not self._is_closed
