"""Who goes next: pure decisions about the engine's jobs, made before every step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from homespun_server.engine.budget import StepBudget
from homespun_server.engine.protocol import Priority

RANKS: dict[Priority, int] = {"invoked": 0, "typed": 1, "ahead": 2, "warm": 3}
_AHEAD, _WARM = RANKS["ahead"], RANKS["warm"]
_PATIENCE_S = 1.0
"""Who was asked for so long ago goes first, whatever its rank and deadline; of several, who came first."""


class Candidate(Protocol):
    @property
    def rank(self) -> int: ...

    @property
    def deadline(self) -> float: ...

    @property
    def order(self) -> int:
        """Of arrival."""
        ...

    @property
    def queued_at(self) -> float: ...

    @property
    def served_before(self) -> float:
        """When an earlier request of the same user was last worked on; -inf if none was."""
        ...


class Runnable(Candidate, Protocol):
    @property
    def weights(self) -> object:
        """Those with the same may share a forward."""
        ...

    @property
    def is_alone(self) -> bool:
        """Whether it shares no forward."""
        ...

    @property
    def num_pending(self) -> int:
        """Ids to compute; with the last of them the next token is decided."""
        ...

    @property
    def last_turn(self) -> int: ...


C = TypeVar("C", bound=Candidate)
R = TypeVar("R", bound=Runnable)
T = TypeVar("T")


def in_order(candidates: Sequence[C]) -> list[C]:
    """By rank, then earliest deadline, but first whoever hasn't had a turn since the longest waiting one came.

    Deadline alone would let one fast typist, whose every request ends the one before, go before all others for ever;
    newest first would too.
    """
    if len(candidates) < 2:
        return list(candidates)
    oldest: dict[int, float] = {}
    for one in candidates:
        oldest[one.rank] = min(oldest.get(one.rank, one.queued_at), one.queued_at)
    return sorted(candidates, key=lambda c: (c.rank, c.served_before > oldest[c.rank], c.deadline, c.order))


def admit(waiting: Sequence[C], running: Sequence[Candidate], max_running: int) -> list[C]:
    """Those that may begin to run, first to last; memory may allow fewer.

    What is only asked for ahead takes half of the places, so that who types finds one. What fills the cache runs only
    when there is nothing else, one at a time.
    """
    ranks = [one.rank for one in running if one.rank != _WARM]
    admitted: list[C] = []
    for one in in_order(waiting):
        if one.rank == _WARM:
            if not ranks and not running:
                return [one]
            break
        if len(ranks) < max_running and (one.rank < _AHEAD or ranks.count(_AHEAD) < max(1, max_running // 2)):
            admitted.append(one)
            ranks.append(one.rank)
    return admitted


@dataclass(frozen=True, slots=True)
class Share(Generic[T]):
    job: T
    num_ids: int
    """Of its pending ids."""


def pick(running: Sequence[R], budget: StepBudget, now: float, *, is_chunk_due: bool) -> list[Share[R]]:
    """What goes into the next forward: all with the same weights as whoever is first, as far as the budget goes.

    A chunk of a long prompt takes as long as twenty steps of somebody whose prompt is in the cache; so these go first,
    and the long prompts one after the other. is_chunk_due: the others have been first for long enough.
    """
    if len(running) == 1:
        return [Share(running[0], min(running[0].num_pending, budget.prefill_chunk))]
    ordered = _first_to_last([one for one in running if one.rank != _WARM] or running, now)
    quick = [one for one in ordered if one.num_pending <= budget.max_quick]
    long = [one for one in ordered if one.num_pending > budget.max_quick]
    if not ordered:
        return []
    is_chunk = bool(long) and (is_chunk_due or not quick)
    first = long[0] if is_chunk else quick[0]
    if first.is_alone:
        return [Share(first, first.num_pending)]
    chunk = budget.prefill_chunk
    together = [one for one in quick if one.weights is first.weights and not one.is_alone]
    shares = _deciding(together, budget.max_rows) + _prefill(
        together, first.rank, min(budget.max_quick, chunk // 2 if is_chunk else chunk)
    )
    if is_chunk:
        left = chunk - sum(share.num_ids for share in shares if share.job.num_pending > 1)
        shares += _prefill([one for one in long if one.weights is first.weights], first.rank, left)
    return shares


def _first_to_last(candidates: Sequence[R], now: float) -> list[R]:
    late = [one for one in candidates if now - one.queued_at >= _PATIENCE_S]
    if not late:
        return in_order(candidates)
    return sorted(late, key=lambda one: one.order) + in_order([one for one in candidates if one not in late])


def _deciding(together: Sequence[R], max_rows: int) -> list[Share[R]]:
    deciding = sorted((one for one in together if one.num_pending == 1), key=lambda one: one.last_turn)
    return [Share(one, 1) for one in deciding[:max_rows]]


def _prefill(together: Sequence[R], rank: int, room: int) -> list[Share[R]]:
    """So many ids of their prompts, in order. What is only asked for ahead slows down nobody of a higher rank."""
    shares = list[Share[R]]()
    for one in together:
        if one.num_pending == 1 or room == 0 or one.rank > max(rank, _AHEAD - 1):
            continue
        shares.append(Share(one, min(one.num_pending, room)))
        room -= shares[-1].num_ids
    return shares
