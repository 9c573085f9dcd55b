"""Who goes next: pure decisions about the engine's jobs, made before every step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from homespun_server.engine.budget import StepBudget
from homespun_server.engine.protocol import Priority

RANKS: dict[Priority, int] = {"invoked": 0, "typed": 1, "ahead": 2, "warm": 3}
_AHEAD, _WARM = RANKS["ahead"], RANKS["warm"]
_LAG = (0, 1, 4, 4)
"""By rank: how many turns weights wait longer for their next than those that a developer waits for."""
_PATIENCE = 16
"""After so many turns a prompt of a lower rank gets its chunk although it slows down completions of a higher one."""


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
        """When an earlier request of the same client was last worked on; -inf if none was."""
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


def pick(running: Sequence[R], last_turns: Mapping[int, int], budget: StepBudget) -> list[Share[R]]:
    """What goes into the next forward: all with the same weights, as far as the budget goes.

    last_turns: when weights last had a forward, by their `id`. Weights take turns, so that nobody starves.
    """
    if len(running) == 1:
        return [Share(running[0], min(running[0].num_pending, budget.prefill_chunk))]
    ordered = in_order([one for one in running if one.rank != _WARM] or running)
    if not ordered:
        return []
    first = min(ordered, key=lambda one: last_turns.get(id(one.weights), 0) + _LAG[one.rank])
    if first.is_alone:
        return [Share(first, first.num_pending)]
    together = [one for one in ordered if one.weights is first.weights and not one.is_alone]
    deciding = sorted((one for one in together if one.num_pending == 1), key=lambda one: one.last_turn)
    shares = [Share(one, 1) for one in deciding[: budget.max_rows]]
    return shares + _prefill(together, shares, last_turns.get(id(first.weights), 0), budget.prefill_chunk)


def _prefill(together: Sequence[R], deciding: Sequence[Share[R]], turn: int, chunk: int) -> list[Share[R]]:
    """One chunk of prompts, in order."""
    highest = min((share.job.rank for share in deciding), default=_WARM)
    shares: list[Share[R]] = []
    for one in together:
        if one.num_pending == 1 or chunk == 0:
            continue
        if one.rank > highest and one.rank >= _AHEAD and turn - one.last_turn < _PATIENCE:
            continue
        shares.append(Share(one, min(one.num_pending, chunk)))
        chunk -= shares[-1].num_ids
    return shares
