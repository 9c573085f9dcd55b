"""What a step may hold: decided from what steps cost on this machine, and from how often drafts have been right."""

from __future__ import annotations

import math
import sys
import time
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from homespun_server.engine.decoders.protocol import Decoder, Kv, Segment
from homespun_server.engine.trees import Branches

_MAX_STEP_MS = 20.0
"""Whoever cancels or comes in meanwhile waits so long for the step to end."""
_MAX_CHUNK_MS = 8.0
"""A chunk is measured at the beginning of a prompt; at the end of one of 900 tokens it takes twice as long, and over
HTTP five more pass until somebody else has an answer."""
_MIN_CHUNK, _MAX_CHUNK = 32, 256
_MAX_WASTE = 1.5
"""What a token of a prompt may cost in small chunks, of what it costs in large ones. In chunks of 32, int8 takes 1.1
times as long for a prompt as at once, float32 1.9 times."""
_QUICK, _QUICK_STEPS = 32, 2.0
_MAX_NODES = 16
_MAX_SLOWDOWN = 2.5
"""A step this much slower than one without draft never pays: of four-line completions, an oracle's trees decide 2.1
tokens a step."""
MAX_REMEMBERED = 32
_NEXT_ROWS = 7
"""What one more row costs is the mean of so many: of one alone it is mostly noise. From one row on, these end at a size
that was measured."""
_DRAFTED_SHARE = 0.8
"""What a token takes with drafts, of what it takes without (benchmarks/LOG.md)."""
_MIN_CHANCE, _MAX_CHANCE = 0.05, 0.5
"""Below, a guess takes longer to find than it saves, whatever rows cost; above, nearly nothing would be tried any more,
on the word of a second's timings."""
_ROWS, _PREFILL = (1, 2, 4, 8, 16, 32), (32, 64, 128, 256)
_MAX_MEASURE_S = 1.0
_MAX_ROUNDS = 7
_MAX_REPEATED_MS = 200.0


@dataclass(frozen=True, slots=True, kw_only=True)
class StepCosts:
    """Milliseconds of a forward by its number of ids, ascending; never empty."""

    rows: tuple[tuple[int, float], ...]
    """Logits are wanted for all of them."""
    prefill: tuple[tuple[int, float], ...]
    """Logits are wanted for the last one."""
    row_bytes: float = 0.0
    """What a token's keys and values take."""

    def prefill_ms(self, num_ids: int) -> float:
        return _between(self.prefill, num_ids)


@dataclass(frozen=True, slots=True, kw_only=True)
class StepBudget:
    max_rows: int
    """Of sequences that decide tokens, drafts included."""
    prefill_chunk: int
    """Prompt tokens in one forward."""
    max_nodes: int
    """Of one sequence's draft."""
    max_quick: int
    """Who has no more ids to compute goes before every chunk of a longer prompt."""


def choose_budget(costs: StepCosts) -> StepBudget:
    alone = costs.rows[0][1]
    # Where one row alone takes longer than a step should, batching is what makes the most of it.
    longest = max(_MAX_STEP_MS, 2 * alone)
    max_rows = max([n for n, ms in costs.rows if ms <= longest and ms <= n * alone], default=1)
    drafted = range(1, min(max_rows, _MAX_NODES + 1) + 1)
    nodes = [n - 1 for n in drafted if _between(costs.rows, n) <= _MAX_SLOWDOWN * alone]
    chunk = _chunk(costs)
    # Where a chunk takes hardly longer than a step, as on a GPU, nobody need wait for the others.
    max_quick = _QUICK if costs.prefill_ms(chunk) > _QUICK_STEPS * alone else sys.maxsize
    return StepBudget(max_rows=max_rows, prefill_chunk=chunk, max_nodes=max(nodes, default=0), max_quick=max_quick)


def _chunk(costs: StepCosts) -> int:
    """The longest that is short enough, or the shortest that wastes little."""
    sizes = range(_MIN_CHUNK, _MAX_CHUNK + 1, 32)
    token_ms = _MAX_WASTE * costs.prefill_ms(_MAX_CHUNK) / _MAX_CHUNK
    short = [n for n in sizes if costs.prefill_ms(n) <= _MAX_CHUNK_MS]
    thrifty = [n for n in sizes if costs.prefill_ms(n) <= n * token_ms]
    return max(max(short, default=_MIN_CHUNK), min(thrifty))


def _between(points: Sequence[tuple[int, float]], n: int) -> float:
    """Linear between the points, as the first one below all, in proportion to the last one above all."""
    at = bisect_left(points, (n, 0.0))
    if at == len(points):
        last, ms = points[-1]
        return ms * n / last
    (high, high_ms), (low, low_ms) = points[at], points[max(at - 1, 0)]
    return high_ms if high == low else low_ms + (high_ms - low_ms) * (n - low) / (high - low)


class RowPlan:
    """The rows of one forward as they are given out to drafts."""

    def __init__(self, costs: StepCosts, budget: StepBudget) -> None:
        self._budget = budget
        self._by_rows = [_between(costs.rows, max(n, 1)) for n in range(budget.max_rows + MAX_REMEMBERED + 2)]
        self._costs = costs
        self._base_ms = 0.0
        self._num_rows = 0
        self._expected = 0.0

    @property
    def ms(self) -> float:
        """What the forward will take."""
        return self._base_ms + self._by_rows[self._num_rows]

    @property
    def max_nodes(self) -> int:
        return max(0, min(self._budget.max_nodes, self._budget.max_rows - self._num_rows))

    @property
    def min_chance(self) -> float:
        """From which chance on one more node pays: what a row takes, as a share of what a token takes."""
        rows = self._by_rows[self._num_rows : self._num_rows + _NEXT_ROWS + 1]
        row_ms = (rows[-1] - rows[0]) / (len(rows) - 1)
        token_ms = _DRAFTED_SHARE * self.ms / max(self._expected, 1.0)
        return min(max(row_ms / token_ms, _MIN_CHANCE), _MAX_CHANCE)

    def begin(self, num_deciding: int, num_prefill: int) -> None:
        """`num_deciding` sequences get one row each, whatever comes."""
        self._num_rows = min(num_deciding, self._budget.max_rows)
        self._expected = float(num_deciding)
        self._base_ms = self._costs.prefill_ms(num_prefill) if num_prefill else 0.0

    def take(self, chances: Sequence[float]) -> int:
        """How many of the nodes with these chances to verify."""
        size = best_size(
            chances[: self.max_nodes], self._by_rows, self._base_ms, num_rows=self._num_rows, expected=self._expected
        )
        self._num_rows += size
        self._expected += sum(chances[:size])
        return size

    def take_remembered(self, wanted: int) -> int:
        """A continuation that was decided before is nearly always decided again, so it may be longer than a draft."""
        size = max(0, min(wanted, MAX_REMEMBERED, max(self.max_nodes, MAX_REMEMBERED - self._num_rows)))
        self._num_rows = min(self._num_rows + size, self._budget.max_rows)
        self._expected += size
        return size


def best_size(
    chances: Sequence[float], cost_by_rows: Sequence[float], base_ms: float, *, num_rows: int, expected: float
) -> int:
    """Number of nodes that maximises expected tokens over time, for a forward that has `num_rows` rows and decides
    `expected` tokens without them. chances: that each node stands, of which any first n are a tree."""
    best, best_rate = 0, expected / (base_ms + cost_by_rows[num_rows])
    for size, chance in enumerate(chances, 1):
        expected += chance
        rate = expected / (base_ms + cost_by_rows[num_rows + size])
        if rate > best_rate:
            best, best_rate = size, rate
    return best


_DEPTHS, _RANKS = 8, 4
_FIRST_GUESS = (0.5, 0.2, 0.1, 0.1)
_LEARNING, _RELAXING = 0.05, 0.02


class Acceptance:
    """How often a drafted token has been right where its parent was, by depth and rank: exponential averages."""

    def __init__(self) -> None:
        self._rates = [list(_FIRST_GUESS) for _ in range(_DEPTHS)]

    def chances(self, tree: Branches) -> list[float]:
        """That each node stands."""
        chances: list[float] = []
        for parent, depth, rank in zip(tree.parents, tree.depths, tree.ranks, strict=True):
            rate = self._rates[min(depth, _DEPTHS - 1)][min(rank, _RANKS - 1)]
            chances.append(rate * chances[parent] if parent >= 0 else rate)
        return chances

    def learn(self, tree: Branches, path: Sequence[int]) -> None:
        stands = {-1, *path}
        for node, parent in enumerate(tree.parents):
            if parent in stands:
                rates, rank = self._rates[min(tree.depths[node], _DEPTHS - 1)], min(tree.ranks[node], _RANKS - 1)
                rates[rank] += _LEARNING * ((node in stands) - rates[rank])

    def relax(self) -> None:
        """A draft wasn't worth trying; from time to time one must be, or nothing more would be learned."""
        for rates in self._rates:
            for rank, guess in enumerate(_FIRST_GUESS):
                rates[rank] += _RELAXING * (guess - rates[rank])


def lowest(a: StepCosts, b: StepCosts) -> StepCosts:
    """What made a size take longer in one of two measurements was something else."""
    return StepCosts(rows=_lower(a.rows, b.rows), prefill=_lower(a.prefill, b.prefill), row_bytes=a.row_bytes)


def can_repeat(costs: StepCosts) -> bool:
    """Whether nobody waits for long who comes in while they are measured once more."""
    return costs.prefill_ms(_PREFILL[0]) <= _MAX_REPEATED_MS


def measure_costs(decoder: Decoder) -> StepCosts:
    """Takes a second at most; where a single forward takes as long, a few of them."""
    costs = measure_unless(decoder, lambda: False)
    assert costs is not None
    return costs


@torch.inference_mode()
def measure_unless(decoder: Decoder, is_wanted: Callable[[], bool]) -> StepCosts | None:
    """None when the decoder was wanted for something else, which then waits for one forward."""
    started = time.monotonic()
    max_context = decoder.facts.max_context
    _timed(decoder, decoder.new_kv(), 1)  # the first one also sets up what later ones find ready
    prefill = list[tuple[int, float]]()
    for n in _PREFILL:
        if prefill and (time.monotonic() > started + _MAX_MEASURE_S / 2 or n >= max_context):
            break
        n = min(n, max_context // 2)
        ms = math.inf
        for _ in range(2):
            if is_wanted():
                return None
            kv = decoder.new_kv()
            ms = min(ms, _timed(decoder, kv, n))
            kv.keep(range(n))
        prefill.append((n, ms))
    row_bytes = kv.num_bytes / kv.length
    sizes = [
        n for n in (_ROWS if decoder.facts.can_crop else _ROWS[:1]) if kv.length + max(n, _MAX_ROUNDS) <= max_context
    ]
    best = dict.fromkeys(sizes, math.inf)
    for number in range(_MAX_ROUNDS):  # all sizes by turns, so that no burst of other work hits one of them only
        for n in sizes:
            if is_wanted():
                return None
            is_late = time.monotonic() > started + _MAX_MEASURE_S
            if not is_late or (number == 0 and n == 1):
                best[n] = min(best[n], _timed_and_forgotten(decoder, kv, n))
    rows = _rising([(n, ms) for n, ms in best.items() if ms < math.inf])
    return StepCosts(rows=rows, prefill=_rising(prefill), row_bytes=row_bytes)


def _lower(a: Sequence[tuple[int, float]], b: Sequence[tuple[int, float]]) -> tuple[tuple[int, float], ...]:
    best = dict(a)
    for n, ms in b:
        best[n] = min(ms, best.get(n, ms))
    return _rising(sorted(best.items()))


def _rising(points: Sequence[tuple[int, float]]) -> tuple[tuple[int, float], ...]:
    """Less work doesn't take longer: where it seemed to, something else ran."""
    return tuple((n, min(ms for _, ms in points[at:])) for at, (n, _) in enumerate(points))


def _timed(decoder: Decoder, kv: Kv, n: int, num_rows: int = 1) -> float:
    started = time.perf_counter()
    decoder.forward([Segment(kv=kv, ids=[0] * n, num_rows=num_rows)])
    return (time.perf_counter() - started) * 1e3


def _timed_and_forgotten(decoder: Decoder, kv: Kv, n: int) -> float:
    ms = _timed(decoder, kv, n, n)
    kv.keep(range(0 if decoder.facts.can_crop else n))
    return ms
