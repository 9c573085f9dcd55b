"""One completion, step by step: reuse what is cached, compute the rest of the prompt, then decide tokens."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from homespun_server.engine.budget import Acceptance, RowPlan
from homespun_server.engine.decoders.protocol import Decoder, Kv, Segment
from homespun_server.engine.kv import Lease, Slot
from homespun_server.engine.protocol import (
    Draft,
    Drafter,
    EngineRequest,
    EngineStats,
    FinishReason,
    Token,
    Tree,
)
from homespun_server.engine.sampling import Decided, Sampler
from homespun_server.engine.trees import Branches, chain, checked

logger = logging.getLogger(__name__)

_SCORE_PREFILL, _SCORE_ROWS = 256, 128
"""Ids in one forward while scoring. Rows of logits are held at once: 128 x 150,000 floats are 77 MB."""
_NO_TREE = Branches()


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
    has_lost_drafter: bool = False
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
            has_lost_drafter=self.has_lost_drafter,
            queue_ms=(started - self.queued_at) * 1e3,
            prefill_ms=(decoding - started) * 1e3,
            decode_ms=(ended - decoding) * 1e3,
            finish_reason=self.finish_reason,
        )


class Decoding:
    """One request on its way through the model: `segment`, a forward, `absorb`, until `is_finished`.

    The slot holds rows of all ids but the pending ones. Where a model's cache can't be cropped nothing is drafted.
    """

    def __init__(
        self, request: EngineRequest, ids: list[int], decoder: Decoder, lease: Lease, run: Run, acceptance: Acceptance
    ) -> None:
        self.slot: Slot = lease.slot
        self.is_finished = False
        self._request, self._facts, self._run, self._acceptance = request, decoder.facts, run, acceptance
        self.ids = list(ids)
        self.num_pending = len(ids) - len(self.slot.ids)
        self._sampler = Sampler(
            request.temperature,
            request.seed,
            request.constraint() if request.constraint is not None else None,
            request.num_alternatives,
            top_p=request.top_p,
            top_k=request.top_k,
            mixer=request.mix() if request.mix is not None else None,
        )
        can_draft = self._facts.can_crop and request.max_new_tokens > 1
        self._new_drafter = request.draft if can_draft else None
        self._drafter: Drafter | None = None
        self._num_constrained = 0
        self._num_told = 0
        """Ids that the drafter knows of."""
        self._remembered = lease.remembered
        self._is_remembered = can_draft and request.temperature <= 0
        """Whether the draft is what was remembered, as long as there is any."""
        self._part: list[int] = []
        self._tree = _NO_TREE
        self._is_deciding = False
        self._end: list[int] = []
        run.cached_tokens = len(self.slot.ids)

    @property
    def ahead(self) -> list[int]:
        """What follows the slot's rows, as far as it was decided, now or once before."""
        if not self._run.completion_tokens and not self._end and not self._remembered:
            return []  # the rest of a prompt is no suggestion
        return [*self.ids[len(self.slot.ids) :], *self._end, *self._remembered]

    def resume(self, slot: Slot) -> None:
        """Go on in another slot that holds a beginning of `ids`, after the first was given back."""
        self.slot = slot
        self.num_pending = len(self.ids) - len(slot.ids)

    def segment(self, num_ids: int, plan: RowPlan) -> Segment:
        """The next `num_ids` pending ids, and with the last of them a draft of what may follow."""
        held = len(self.slot.ids)
        self._part = self.ids[held : held + num_ids]
        self._is_deciding = num_ids == self.num_pending and self._request.max_new_tokens > 0
        if not self._is_deciding:
            return Segment(kv=self.slot.kv, ids=self._part)
        self._tree = tree = self._draft(plan)
        if not tree.ids:
            return Segment(kv=self.slot.kv, ids=self._part)
        parents = None if tree.is_chain else [*range(-1, num_ids - 1), *(num_ids + p for p in tree.parents)]
        return Segment(kv=self.slot.kv, ids=self._part + tree.ids, parents=parents, num_rows=1 + len(tree))

    def absorb(self, logits: torch.Tensor) -> list[Token]:
        """The tokens that the forward over the last segment decides."""
        if not self._is_deciding:
            self._keep([])
            if not self.num_pending:
                self._finish("length")
            return []
        decided = self._sampler.decide(logits, self._tree)
        self._count(decided)
        ids = [token.id for token in decided.tokens]
        self._num_constrained += decided.num_constrained
        free = range(decided.num_constrained, len(ids))
        kept = next((n for n in free if ids[n] in self._request.end_ids), len(ids))
        self._keep(decided.path[:kept])
        self._extend(ids[:kept])
        if kept < len(ids):
            self._end, self._remembered = ids[kept : kept + 1], []
            self._finish("stop")
        elif self._run.completion_tokens >= self._limit:
            self._finish("length")
        return decided.tokens[:kept]

    @property
    def _limit(self) -> int:
        """New tokens at most. Those that weren't free don't count, but the context ends where it ends."""
        room = self._facts.max_context - len(self._request.ids)
        return min(self._request.max_new_tokens + self._num_constrained, room)

    def _draft(self, plan: RowPlan) -> Branches:
        room = self._limit - self._run.completion_tokens - 1
        if self._remembered and self._is_remembered:
            return chain(self._remembered[: plan.take_remembered(min(room, len(self._remembered)))])
        facts = self._facts
        # A row each, though only one path of them can stay.
        max_nodes = min(plan.max_nodes, facts.max_context - len(self.ids))
        if self._new_drafter is None or room <= 0 or not max_nodes:
            return _NO_TREE
        proposed = self._propose(self._new_drafter, max_nodes, plan.min_chance)
        if not proposed.ids:
            return _NO_TREE
        tree = checked(
            proposed, vocab_size=facts.vocab_size, max_nodes=max_nodes, max_depth=room, can_branch=facts.can_branch
        )
        size = plan.take(self._acceptance.chances(tree))
        if size < len(tree):
            tree.cut(size)
        if not size:
            self._acceptance.relax()
        return tree

    def _propose(self, new_drafter: Draft, max_nodes: int, min_chance: float) -> Tree:
        """A hint that fails is no hint, and there is none for the rest of this completion."""
        try:
            if self._drafter is None:  # only now: many requests end before they need one
                self._drafter = new_drafter(self._request.ids)
                self._num_told = len(self._request.ids)
            self._drafter.extend(self.ids[self._num_told :])
            self._num_told = len(self.ids)
            return self._drafter.propose(max_nodes, min_chance)
        except Exception as error:  # noqa: BLE001 - whatever a drafter does, the model's own tokens are right
            logger.warning("a drafter failed (%s); this completion goes on without", type(error).__name__)
            self._new_drafter, self._drafter, self._run.has_lost_drafter = None, None, True
            return Tree()

    def _keep(self, path: Sequence[int]) -> None:
        slot, part = self.slot, self._part
        slot.kv.keep([*range(len(part)), *(len(part) + node for node in path)])
        slot.ids += part
        slot.ids += [self._tree.ids[node] for node in path]
        self.num_pending = len(self.ids) - len(slot.ids)

    def _extend(self, ids: list[int]) -> None:
        self.ids += ids
        self._run.completion_tokens += len(ids)
        self.num_pending = len(self.ids) - len(self.slot.ids)
        if self._remembered:
            self._remembered = self._remembered[len(ids) :] if self._remembered[: len(ids)] == ids else []

    def _count(self, decided: Decided) -> None:
        run = self._run
        if not run.num_steps:
            run.decoding_at = time.monotonic()
        run.num_steps += 1
        if len(self._tree):
            run.drafted_tokens += len(self._tree)
            run.accepted_tokens += len(decided.path)
            if not (self._remembered and self._is_remembered):
                self._acceptance.learn(self._tree, decided.path)

    def _finish(self, reason: FinishReason) -> None:
        self._run.finish_reason = reason
        self.is_finished = True


def score_steps(decoder: Decoder, ids: Sequence[int], start: int, scores: list[float]) -> Iterator[None]:
    """Appends the log-probability of each of `ids[start:]`, a forward at a time; see `protocol.Engine.score`.

    Reuses nothing and shares no forward, so that a score is the same bit for bit whenever it is asked for.
    """
    assert 1 <= start <= len(ids)
    kv = decoder.new_kv()
    for at in range(0, start - 1, _SCORE_PREFILL):
        _chain_logits(decoder, kv, ids[at : min(at + _SCORE_PREFILL, start - 1)], 1)
        yield
    for at in range(start - 1, len(ids) - 1, _SCORE_ROWS):
        part = ids[at : min(at + _SCORE_ROWS, len(ids) - 1)]
        rows = _chain_logits(decoder, kv, part, len(part)).log_softmax(dim=-1)
        wanted = torch.tensor(ids[at + 1 : at + 1 + len(part)])
        scores += rows.gather(-1, wanted.unsqueeze(-1)).squeeze(-1).tolist()
        yield


def _chain_logits(decoder: Decoder, kv: Kv, ids: Sequence[int], num_rows: int) -> torch.Tensor:
    logits = decoder.forward([Segment(kv=kv, ids=ids, num_rows=num_rows)])[0]
    kv.keep(range(len(ids)))
    return logits
