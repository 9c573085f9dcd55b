"""How snippets are chosen: pure functions from query and rankings to a selection. The weights are data, set by
measurement.

Numbers behind them: benchmarks/retrieval.py.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from homespun_core.types import SearchQuery
from homespun_indexer.lexical import terms_of, words

Key = TypeVar("Key", bound=Hashable)

LEXICAL, DENSE, SYMBOLS = "lexical", "dense", "symbols"
WEIGHTS: Mapping[str, float] = {LEXICAL: 1.0, DENSE: 0.0, SYMBOLS: 0.9}
"""Dense vectors of token embeddings bring nothing (names found, in points, against words alone, three repositories:
-0.6 to +0.4 at 0.05, -4.3 to -3.8 at 0.5), so they aren't asked until an embedder is better. A definition in the place
of a usage costs 0.7 to 3.2 points; at 0.9 definitions come where usages run out."""

CANDIDATES = 40
"""Hits an arm contributes at most, as in Tabby."""
MAX_PER_FILE = 2
_RRF_K = 60
_PREFIX_LINES, _SUFFIX_LINES = 20, 8
_NAME_LINES = 5
# Share of a line's unknown identifiers that three snippets hold, mean of three repositories, 2,400 places
# (benchmarks/retrieval.py): 23.5 % with equal weights, 28.3 % halving every ten lines above and flat below, 31.5 % with
# the half-lives here, 32.3 % with the line at the cursor counting double.
_CURSOR_LINE_WEIGHT, _HALF_LIFE_ABOVE = 2.0, 4.0
_SUFFIX_WEIGHT, _HALF_LIFE_BELOW = 0.5, 3.0
_DUPLICATE = 0.8
SNIPPET_LINES = 24
SNIPPET_CHARS = 900
"""About 260 tokens, the longest snippet that a prompt takes; a longer one would lose its end there, which may be the
point."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """The lines a query is made of, nearest to the cursor last."""

    above: tuple[str, ...]
    below: tuple[str, ...]

    @property
    def text(self) -> str:
        return "\n".join((*self.above, *self.below))


def window(query: SearchQuery) -> Window:
    above = [line for line in query.prefix[-8_000:].split("\n") if line.strip()]
    below = [line for line in query.suffix[:2_000].split("\n") if line.strip()]
    return Window(above=tuple(above[-_PREFIX_LINES:]), below=tuple(below[:_SUFFIX_LINES]))


def term_weights(near: Window) -> dict[str, float]:
    """Every term once, with the weight of the place nearest to the cursor; weights halve every few lines."""
    weights: dict[str, float] = {}
    for distance, line in enumerate(reversed(near.above)):
        _add(weights, line, 0.5 ** (distance / _HALF_LIFE_ABOVE) if distance else _CURSOR_LINE_WEIGHT)
    for distance, line in enumerate(near.below):
        _add(weights, line, _SUFFIX_WEIGHT * 0.5 ** (distance / _HALF_LIFE_BELOW))
    return weights


def _add(weights: dict[str, float], line: str, weight: float) -> None:
    for word in words(line):
        for term in terms_of(word):
            weights[term] = max(weights.get(term, 0.0), weight)


def used_names(near: Window) -> list[str]:
    """Identifiers of the last lines, nearest to the cursor first."""
    found: dict[str, None] = {}
    for line in reversed(near.above[-_NAME_LINES:]):
        found.update(dict.fromkeys(reversed(words(line))))
    return list(found)


def fuse(rankings: Mapping[str, Sequence[Key]], weights: Mapping[str, float]) -> list[tuple[Key, float]]:
    """Weighted reciprocal rank fusion, best first; equal scores keep the order of the rankings."""
    scores: dict[Key, float] = {}
    for arm, ranking in rankings.items():
        weight = weights.get(arm, 0.0)
        for rank, key in enumerate(ranking if weight > 0 else (), 1):
            scores[key] = scores.get(key, 0.0) + weight / (_RRF_K + rank)
    return sorted(scores.items(), key=lambda item: -item[1])


def is_duplicate(text: str, chosen: Iterable[str]) -> bool:
    """Whether nearly all lines of the shorter text stand in the other one."""
    lines = _line_set(text)
    return any(len(lines & other) >= _DUPLICATE * min(len(lines), len(other)) for other in map(_line_set, chosen))


def _line_set(text: str) -> set[str]:
    return {line.strip() for line in text.split("\n")} - {""}


def overlaps_cursor(text: str, near: Window) -> bool:
    """Whether `text` holds the lines right above the cursor one after the other: it is the place being written.

    For files that the index doesn't know by path. Two lines that say something are enough; one may be a copy elsewhere.
    """
    before = [line.strip() for line in near.above[:-1][-3:]]
    if sum(map(len, before)) < 30 or len(before) < 2:
        return False
    return "\n".join(before) in "\n".join(stripped for line in text.split("\n") if (stripped := line.strip()))


def focus(lines: Sequence[str], weights: Mapping[str, float]) -> tuple[int, int]:
    """The range of lines to show: what matches the query best, and what follows it rather than what precedes it.

    What followed a similar place is what the cursor is about to need (RepoCoder moves its windows down for the same
    reason).
    """
    if _fits(lines):
        return 0, len(lines)
    scores = [sum(weights.get(t, 0.0) for w in words(line) for t in terms_of(w)) for line in lines]
    best, best_score = 0, -1.0
    for start in range(len(lines)):
        end = _end(lines, start)
        # The first half of a range counts double, so that its second half shows what comes next.
        score = sum(scores[start:end]) + sum(scores[start : (start + end) // 2])
        if score > best_score + 1e-9:
            best, best_score = start, score
        if end == len(lines):
            break
    return best, _end(lines, best)


def _fits(lines: Sequence[str]) -> bool:
    return len(lines) <= SNIPPET_LINES and sum(len(line) + 1 for line in lines) <= SNIPPET_CHARS


def _end(lines: Sequence[str], start: int) -> int:
    """Where the longest range from `start` that fits ends; one line at least."""
    chars, end = 0, start
    while end < len(lines) and end - start < SNIPPET_LINES and (chars := chars + len(lines[end]) + 1) <= SNIPPET_CHARS:
        end += 1
    return max(end, start + 1)
