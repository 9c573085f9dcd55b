"""The engine's thread, a turn at a time: who is over, who begins, one forward, what it decides. Knows no threads."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

import torch

from homespun_core.errors import HomespunError, ServiceError
from homespun_server.engine.budget import Acceptance, RowPlan, StepCosts, choose_budget
from homespun_server.engine.decode import Decoding, score_steps
from homespun_server.engine.decoders.protocol import Decoder, Segment
from homespun_server.engine.jobs import Job
from homespun_server.engine.kv import Lease, Slot, SlotPool
from homespun_server.engine.protocol import FinishReason
from homespun_server.engine.scheduler import RANKS, Share, admit, pick

logger = logging.getLogger(__name__)

_WARM = RANKS["warm"]
_OPTIMISM = 0.5
"""A prompt is given up when half of what computing it took at start-up is more than is left: a guess must not refuse
what would have worked."""
_PATIENCE_CHUNKS = 2.0
"""When steps of the others have taken as long as so many chunks, a long prompt gets its next one: at the worst it has
about a third of the time. Simulated with 25 requests a second, three in ten of them long, on one adapter and on 32, the
others' p95 was 44 and 84 ms with 1, 33 and 43 with 2, and 32 and 42 with 4."""
_MAX_KNOWN = 1024
"""Clients and tenants that something is remembered of; the oldest go."""
_LEARNING = 0.1
_K = TypeVar("_K")
_V = TypeVar("_V")


class Turns:
    """on_end: told of every job that is over; with an error if it failed."""

    def __init__(
        self, costs: StepCosts, *, max_running: int, kv_bytes: int, on_end: Callable[[Job, HomespunError | None], None]
    ) -> None:
        self.running, self.waiting = list[Job](), list[Job]()
        self.pool = SlotPool(kv_bytes)
        self.go_by(costs)
        self.mean_ms = costs.prefill_ms(256) + 16 * self.step_ms
        """What a request takes of the engine's time, on average."""
        self._max_running, self._kv_bytes, self._on_end = max_running, kv_bytes, on_end
        self._quick_ms = 0.0
        """That others went before a long prompt, since the last chunk of one. An estimate, so that the order of things
        doesn't depend on what else the machine does."""
        self._number = 0
        self._served: dict[tuple[str, str], float] = {}
        self._acceptance: dict[str, Acceptance] = {}
        """By tenant: what one's drafts are worth must not show in another's time."""

    def go_by(self, costs: StepCosts) -> None:
        """From the next turn on."""
        self.costs, self.budget = costs, choose_budget(costs)
        self.step_ms = costs.rows[0][1]
        self._plan = RowPlan(costs, self.budget)
        self._patience_ms = _PATIENCE_CHUNKS * costs.prefill_ms(self.budget.prefill_chunk)

    def take(self, job: Job) -> None:
        job.served_before = self._served.get(job.whose_turn, job.served_before)
        self.waiting.append(job)

    def turn(self) -> bool:
        """False when nobody could go on."""
        now = time.monotonic()
        self._end_what_is_over(now)
        if self.waiting:
            self._admit()
        shares = pick(self.running, self.budget, now, is_chunk_due=self._quick_ms >= self._patience_ms)
        if shares:
            self._step(shares)
        return bool(shares)

    def end_all(self, error: HomespunError) -> None:
        """What runs ends with what it has; what can't give a part of its answer, or waits, fails with `error`."""
        for job in [*self.running, *self.waiting]:
            self._end(job, "cancelled", None if job.is_running and not job.is_alone else error)

    def _end_what_is_over(self, now: float) -> None:
        for job in [*self.running, *self.waiting] if self.waiting else list(self.running):
            reason = job.why_over(now, self._least_prefill_ms)
            if reason is not None:
                self._end(job, reason)
            elif job.adapter.error is not None and job.adapter.decoder is None and not job.adapter.is_loading:
                self._end(job, "cancelled", job.adapter.error)

    def _least_prefill_ms(self, num_ids: int) -> float:
        return _OPTIMISM * self.costs.prefill_ms(num_ids)

    def _admit(self) -> None:
        ready = [job for job in self.waiting if job.adapter.decoder is not None]
        for job in admit(ready, self.running, self._max_running):
            if job.rank < _WARM:
                self._pause_warm()
            if self.running and self._reserved_bytes([*self.running, job]) > self._kv_bytes:
                return
            self.waiting.remove(job)
            job.is_running = True
            self.running.append(job)
            with self._failing([job]):
                self._start(job)

    def _pause_warm(self) -> None:
        """What was computed stays in the pool, for whoever comes now, and for it to go on later."""
        for job in [job for job in self.running if job.rank == _WARM and not job.is_alone]:
            decoding = job.decoding
            self._release(job, is_sound=True)
            # It knows what was decided; where nothing was, it would only keep rows that the pool gives up.
            job.decoding = decoding if job.run.completion_tokens else None
            self.running.remove(job)
            job.is_running = False
            self.waiting.append(job)

    def _make_room(self) -> None:
        """For what those that run will still need."""
        running = [(self._reserved_bytes([job]), job.slot.kv.num_bytes) for job in self.running if job.slot is not None]
        self.pool.shrink(sum(max(0, reserved - held) for reserved, held in running))

    def _reserved_bytes(self, jobs: Sequence[Job]) -> int:
        return int(sum(len(job.ids) + job.request.max_new_tokens for job in jobs) * self.costs.row_bytes)

    def _start(self, job: Job) -> None:
        job.run.started_at = job.run.started_at or time.monotonic()
        job.last_turn = self._number
        decoder, request = job.adapter.decoder, job.request
        assert decoder is not None
        if job.scoring is not None:
            job.steps = score_steps(decoder, job.ids, *job.scoring)
            return
        if request.max_new_tokens == 0 and self._is_filled(job, decoder):
            self._end(job, "length")
            return
        lease = self._leased(job, decoder)
        job.slot = lease.slot
        self._make_room()
        if job.decoding is None:
            acceptance = _known(self._acceptance, request.tenant, Acceptance)
            job.decoding = Decoding(request, job.ids, decoder, lease, job.run, acceptance)
        else:
            job.decoding.resume(lease.slot)
        reason = job.why_over(time.monotonic(), self._least_prefill_ms)
        if reason is not None:  # only now it is known how much of the prompt is left to compute
            self._end(job, reason)

    def _is_filled(self, job: Job, decoder: Decoder) -> bool:
        if not decoder.facts.can_crop:
            return True  # nothing is kept, so it would be computed for nobody
        is_filled = self.pool.holds(decoder, job.request.tenant, job.ids)
        job.run.cached_tokens = len(job.ids) if is_filled else 0
        return is_filled

    def _leased(self, job: Job, decoder: Decoder) -> Lease:
        tenant = job.request.tenant
        if not decoder.facts.can_crop:
            return Lease(Slot(decoder.new_kv(), decoder, tenant), [])
        ids = job.decoding.ids if job.decoding is not None else job.ids
        return self.pool.acquire(decoder, tenant, ids, min(1, job.request.max_new_tokens))

    def _step(self, shares: Sequence[Share[Job]]) -> None:
        first = shares[0].job
        self._number += 1
        started = time.monotonic()
        if first.steps is not None:
            with self._failing([first]):
                if next(first.steps, first) is first:
                    self._end(first, "length")
        else:
            has_chunk = any(self._is_long(share.job) for share in shares)
            jobs, logits = self._forward(first.adapter.decoder, shares)
            self._account(jobs, started)
            for job, rows in zip(jobs, logits, strict=False):
                with self._failing([job]):
                    self._absorb(job, rows)
            self._quick_ms += self._plan.ms
            if has_chunk or not any(self._is_long(job) for job in self.running):
                self._quick_ms = 0.0

    def _is_long(self, job: Job) -> bool:
        return job.num_pending > self.budget.max_quick

    def _forward(
        self, decoder: Decoder | None, shares: Sequence[Share[Job]]
    ) -> tuple[Sequence[Job], Sequence[torch.Tensor]]:
        """The jobs that had a part in it, and their logits; none where it failed."""
        assert decoder is not None
        num_deciding = sum(1 for share in shares if share.num_ids == share.job.num_pending)
        num_ids = sum(share.num_ids for share in shares)
        self._plan.begin(num_deciding, num_ids - num_deciding)
        jobs, batch = list[Job](), list[Segment]()
        for share in shares:
            with self._failing([share.job]):
                assert share.job.decoding is not None
                batch.append(share.job.decoding.segment(share.num_ids, self._plan))
                jobs.append(share.job)
        logits: list[torch.Tensor] = []
        with self._failing(jobs):
            logits = decoder.forward(batch) if batch else []
        return jobs, logits

    def _absorb(self, job: Job, rows: torch.Tensor) -> None:
        assert job.decoding is not None
        tokens = job.decoding.absorb(rows)
        if tokens:
            job.tell(tokens)
        if job.decoding.is_finished:
            self._end(job, job.run.finish_reason)

    def _account(self, jobs: Sequence[Job], started: float) -> None:
        now = time.monotonic()
        for job in jobs:
            job.engine_ms += (now - started) * 1e3 / len(jobs)
            job.last_turn = self._number
            self._served.pop(job.whose_turn, None)  # so that the oldest stand first
            _known(self._served, job.whose_turn, lambda: now)

    def _failing(self, jobs: Sequence[Job]) -> _Failing:
        """What goes wrong inside ends these jobs and nothing else."""
        return _Failing(lambda error: self._fail(jobs, error))

    def _fail(self, jobs: Sequence[Job], error: HomespunError) -> None:
        for job in list(jobs):
            self._end(job, "cancelled", error)

    def _end(self, job: Job, reason: FinishReason, error: HomespunError | None = None) -> None:
        self._release(job, is_sound=error is None or job.decoding is None)
        (self.running if job in self.running else self.waiting).remove(job)
        if job.rank < _WARM and not job.is_alone and _is_whole(job, reason):
            self.mean_ms += _LEARNING * (job.engine_ms - self.mean_ms)
        job.run.finish_reason, job.run.ended_at = reason, time.monotonic()
        self._on_end(job, error)

    def _release(self, job: Job, *, is_sound: bool) -> None:
        """is_sound: whether the slot's rows are those of its ids; after a failure nobody knows."""
        slot, decoding = job.slot, job.decoding
        job.slot = job.decoding = job.steps = None
        if slot is None or slot not in self.pool.slots:
            return
        if is_sound and slot.ids:
            self.pool.release(slot, decoding.ahead if decoding is not None else [])
        else:
            self.pool.forget(slot)


def _is_whole(job: Job, reason: FinishReason) -> bool:
    """Post-processing ends most completions, when it has what it needs: they are cancelled after their first tokens."""
    return reason in ("stop", "length") or (reason == "cancelled" and job.run.completion_tokens > 0)


class _Failing:
    """Hands on what goes wrong inside. A class: `contextmanager` takes 3 us more, three times a step."""

    __slots__ = ("_fail",)

    def __init__(self, fail: Callable[[HomespunError], None]) -> None:
        self._fail = fail

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> bool:
        if error is None or not isinstance(error, Exception):
            return False
        if not isinstance(error, HomespunError):
            logger.error("a completion failed", exc_info=error)
            error = ServiceError(f"the engine failed ({type(error).__name__}); see the server's log")
        self._fail(error)
        return True


def _known(table: dict[_K, _V], key: _K, make: Callable[[], _V]) -> _V:
    if key not in table:
        if len(table) >= _MAX_KNOWN:
            del table[next(iter(table))]
        table[key] = make()
    return table[key]
