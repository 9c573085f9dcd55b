"""One completion, step by step: reuse what is cached, compute the rest of the prompt, then decide tokens."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice, takewhile

import torch

from homespun_server.engine.kv import SlotPool
from homespun_server.engine.model import Decoder
from homespun_server.engine.protocol import EngineRequest, EngineStats, FinishReason, Token
from homespun_server.engine.sampling import Sampler

PREFILL_CHUNK = 256
"""Prompt tokens in one forward: what a cancelled request still costs. Smaller parts cost speed (18.9M parameters in
float32: 0.30 ms a token at 256, 0.52 at 32)."""
MAX_DRAFT = 8
"""Each drafted token makes a step about 5 % slower (0.3 of 5.7 ms), whether it is right or not."""
_SCORE_ROWS = 128
"""Rows of logits held at once while scoring: 128 x 150,000 floats are 77 MB."""


@dataclass(slots=True, kw_only=True)
class Run:
    """What is known about a request while it runs. Written by the engine's thread, read by anyone; times: monotonic."""

    prompt_tokens: int
    queued_at: float
    started_at: float = 0.0
    decoding_at: float = 0.0
    cached_tokens: int = 0
    completion_tokens: int = 0
    num_steps: int = 0
    drafted_tokens: int = 0
    accepted_tokens: int = 0
    ended_at: float = 0.0
    finish_reason: FinishReason = "cancelled"

    def stats(self) -> EngineStats:
        ended = self.ended_at or time.monotonic()
        started = self.started_at or ended
        decoding = self.decoding_at or ended
        return EngineStats(
            prompt_tokens=self.prompt_tokens,
            cached_tokens=self.cached_tokens,
            completion_tokens=self.completion_tokens,
            num_steps=self.num_steps,
            drafted_tokens=self.drafted_tokens,
            accepted_tokens=self.accepted_tokens,
            queue_ms=(started - self.queued_at) * 1e3,
            prefill_ms=(decoding - started) * 1e3,
            decode_ms=(ended - decoding) * 1e3,
            finish_reason=self.finish_reason,
        )


class Decoding:
    """One request on its way through the model.

    `pool` None: this model's cache can't be cropped, so nothing is reused and nothing is drafted.
    """

    def __init__(self, request: EngineRequest, model: Decoder, pool: SlotPool | None, run: Run) -> None:
        self._request, self._model, self._run = request, model, run
        self._ids = list(request.ids)
        self._slot = pool.acquire(model, self._ids) if pool is not None else None
        self._cache = self._slot.cache if self._slot is not None else model.new_cache()
        run.cached_tokens = len(self._slot.ids) if self._slot is not None else 0
        self._pending = self._ids[run.cached_tokens :]
        """The end of `ids` that the cache doesn't hold yet; never empty."""
        self._sampler = Sampler(request.temperature, request.seed)
        self._is_finished = False

    def steps(self) -> Iterator[list[Token]]:
        """The tokens of each step; an empty list after a part of the prompt. The caller may stop after any of them."""
        self._run.started_at = time.monotonic()
        while not self._is_finished:
            if time.monotonic() >= self._request.deadline:
                self._run.finish_reason = "deadline"
                return
            yield self._prefill_part() if len(self._pending) > PREFILL_CHUNK else self._decide()

    def _prefill_part(self) -> list[Token]:
        part, self._pending = self._pending[:PREFILL_CHUNK], self._pending[PREFILL_CHUNK:]
        self._forward(part, num_rows=1)
        return []

    def _decide(self) -> list[Token]:
        """One forward over what is pending and a draft of what may follow; keep what the model agrees with."""
        draft = self._draft()
        tokens = self._sampler.choose(self._forward(self._pending + draft, num_rows=len(draft) + 1), draft)
        self._count(len(draft), len(tokens) - 1)
        kept = [*takewhile(lambda token: token.id not in self._request.end_ids, tokens)]
        self._ids += [token.id for token in kept]
        self._run.completion_tokens += len(kept)
        if len(kept) < len(tokens):
            self._finish("stop")
        elif self._run.completion_tokens >= self._request.max_new_tokens:
            self._finish("length")
        self._pending = self._ids[-1:]
        if self._slot is not None:
            self._slot.crop(len(self._ids) - len(self._pending))
        return kept

    def _draft(self) -> list[int]:
        """What the request proposes, as far as it can be verified: a longer forward costs time."""
        room = min(MAX_DRAFT, self._request.max_new_tokens - self._run.completion_tokens - 1)
        if self._request.draft is None or self._slot is None or room <= 0:
            return []
        proposed = islice(self._request.draft(tuple(self._ids)), room)
        return [*takewhile(lambda i: 0 <= i < self._model.vocab_size, proposed)]

    def _forward(self, ids: Sequence[int], num_rows: int) -> torch.Tensor:
        is_done = False
        try:
            logits = self._model.forward(ids, self._cache, num_rows)
            is_done = True
        finally:
            if self._slot is not None and not is_done:
                self._slot.forget()  # some layers may hold rows of these ids, others not
        if self._slot is not None:
            self._slot.ids += ids
        return logits

    def _count(self, num_drafted: int, num_accepted: int) -> None:
        run = self._run
        if not run.num_steps:
            run.decoding_at = time.monotonic()
        run.num_steps += 1
        run.drafted_tokens += num_drafted
        run.accepted_tokens += num_accepted

    def _finish(self, reason: FinishReason) -> None:
        self._run.finish_reason = reason
        self._is_finished = True


@torch.inference_mode()
def score(model: Decoder, ids: Sequence[int], start: int, pool: SlotPool | None = None) -> list[float]:
    """Log-probability of each of `ids[start:]`; see `protocol.Engine.score`.

    Reuses nothing, so that a score is the same bit for bit whenever it is asked for; what it computes stays in `pool`.
    """
    assert 1 <= start <= len(ids)
    slot = pool.acquire_empty(model) if pool is not None else None
    cache = slot.cache if slot is not None else model.new_cache()
    scores: list[float] = []
    try:
        for at in range(0, start - 1, PREFILL_CHUNK):
            model.forward(ids[at : min(at + PREFILL_CHUNK, start - 1)], cache, 1)
        for at in range(start - 1, len(ids) - 1, _SCORE_ROWS):
            part = ids[at : min(at + _SCORE_ROWS, len(ids) - 1)]
            rows = model.forward(part, cache, len(part)).log_softmax(dim=-1)
            wanted = torch.tensor(ids[at + 1 : at + 1 + len(part)], device=rows.device)
            scores += rows.gather(-1, wanted.unsqueeze(-1)).squeeze(-1).tolist()
    except BaseException:
        if slot is not None:
            slot.forget()  # some layers may hold rows that others don't
        raise
    if slot is not None:
        slot.ids = list(ids[:-1])
    return scores
