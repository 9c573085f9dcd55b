"""Examples of several repositories in one stream, each made of its own documents, with its own name and search."""

from __future__ import annotations

import itertools
import random
from collections.abc import Mapping, Sequence
from typing import Protocol

from homespun_trainer.examples import Example

FLOOR = 0.3
"""Share of the examples that is divided evenly; the rest goes by size. Of a repository a hundred times smaller than
another, a team's adapter then still sees one example in seven instead of one in a hundred."""


class Numbered(Protocol):
    @property
    def size(self) -> float: ...

    def example(self, n: int) -> Example: ...


class Mixture:
    """Example n is a function of (streams, seed, n) alone, in whatever order the streams are given."""

    def __init__(self, streams: Mapping[str, Numbered], seed: int) -> None:
        self._streams, self._seed = dict(sorted(streams.items())), seed
        self._cumulative = list(itertools.accumulate(shares([s.size for s in self._streams.values()])))

    def part(self, n: int) -> str:
        """Which stream example n is of."""
        rng = random.Random(f"{self._seed}/part/{n}")
        return rng.choices(list(self._streams), cum_weights=self._cumulative)[0]

    def example(self, n: int) -> Example:
        """Raises TooLittleCode when its stream has none."""
        return self._streams[self.part(n)].example(n)

    def batch(self, step: int, size: int) -> list[Example]:
        return [self.example(n) for n in range(step * size, (step + 1) * size)]


def shares(sizes: Sequence[float]) -> list[float]:
    """Of the examples; they add up to one."""
    return [FLOOR / len(sizes) + (1 - FLOOR) * size / sum(sizes) for size in sizes]
