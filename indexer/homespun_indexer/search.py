"""How snippets are chosen: pure functions from query and rankings to a selection. The weights are data, set by
measurement (benchmarks/retrieval.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

from homespun_core.types import SearchQuery
from homespun_indexer.lexical import terms_of, words
from homespun_indexer.parts import Hit

USAGE, DEFINITION = "usage", "definition"
"""Kinds of snippets: code that looks like what is being written, and what the names in it are."""
ARMS = (USAGE, DEFINITION)
MAX_DEFINITIONS = 4
"""They come after the usages, so they cost a prompt nothing but room to spare: 0.6, 0.6 and 0.1 points more of the
names that were written, for some 45 tokens, in three repositories. Before the usages they cost more than they
brought."""

NESTED_WEIGHTS = (2.0, 2.0, 1.0)
DENSE_WEIGHT = 0.2
"""Of an embedder's ranking, where one is set. None is by default: of six that were tried, none found surely more names
than words alone did in two of three repositories."""
_RRF_K = 60

LEAST_WEIGHT = 0.04
"""A query's terms that weigh less than this share of its heaviest aren't looked up: nearly half of them, from far away
or known everywhere. It changes what is found by less than 0.4 points either way."""
CANDIDATES = 40
"""Chunks that snippets are chosen from."""
MAX_PER_FILE = 2
_PREFIX_LINES, _SUFFIX_LINES = 20, 8
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
    of_words: dict[str, float] = {}
    for distance, line in enumerate(reversed(near.above)):
        _raise(of_words, words(line), 0.5 ** (distance / _HALF_LIFE_ABOVE) if distance else _CURSOR_LINE_WEIGHT)
    for distance, line in enumerate(near.below):
        _raise(of_words, words(line), _SUFFIX_WEIGHT * 0.5 ** (distance / _HALF_LIFE_BELOW))
    weights: dict[str, float] = {}
    for word, weight in of_words.items():
        _raise(weights, terms_of(word), weight)
    return weights


def _raise(weights: dict[str, float], names: Iterable[str], weight: float) -> None:
    for name in names:
        if weights.get(name, 0.0) < weight:
            weights[name] = weight


class WordWeights(dict[str, float]):
    """What a word weighs: the sum of its terms, each added up once for all chunks of a query."""

    def __init__(self, terms: Mapping[str, float]) -> None:
        self._terms = terms

    def __missing__(self, word: str) -> float:
        weight = 0.0
        for term in terms_of(word):
            weight += self._terms.get(term, 0.0)
        self[word] = weight
        return weight


class LineWeights(dict[str, float]):
    """What a line weighs: the sum of its words. Licences, imports and copies stand in many of the chunks of a query."""

    def __init__(self, terms: Mapping[str, float]) -> None:
        self._words = WordWeights(terms)

    def __missing__(self, line: str) -> float:
        weight = self[line] = sum(map(self._words.__getitem__, words(line)), 0.0)
        return weight


def fuse(ranked: Sequence[Hit], by_vector: Sequence[Hit]) -> list[Hit]:
    """Weighted reciprocal rank fusion, best first; equal scores keep the order of the rankings."""
    scores: dict[tuple[int, int], float] = {}
    for weight, ranking in ((1.0, ranked), (DENSE_WEIGHT, by_vector)):
        for rank, hit in enumerate(ranking, 1):
            scores[hit.part, hit.chunk] = scores.get((hit.part, hit.chunk), 0.0) + weight / (_RRF_K + rank)
    fused = sorted(scores.items(), key=lambda item: -item[1])
    return [Hit(score, *place) for place, score in fused]


def nested(near: Window) -> list[str]:
    """The line of the cursor, the last few lines, and the whole window: texts for one vector."""
    return ["\n".join(near.above[-1:]), "\n".join(near.above[-4:]), near.text]


def is_duplicate(lines: frozenset[str], chosen: Iterable[frozenset[str]]) -> bool:
    """Whether nearly all lines of the shorter text stand in the other one."""
    return any(len(lines & other) >= _DUPLICATE * min(len(lines), len(other)) for other in chosen)


def line_set(text: str) -> frozenset[str]:
    """Without indentation, each line once, no empty one."""
    return frozenset(map(str.strip, text.split("\n"))) - {""}


def overlaps_cursor(text: str, near: Window) -> bool:
    """Whether `text` holds the lines right above the cursor one after the other: it is the place being written.

    For files that the index doesn't know by path. Two lines that say something are enough; one may be a copy elsewhere.
    """
    before = [line.strip() for line in near.above[:-1][-3:]]
    if sum(map(len, before)) < 30 or len(before) < 2:
        return False
    return "\n".join(before) in "\n".join(stripped for line in text.split("\n") if (stripped := line.strip()))


def focus(lines: Sequence[str], num_own: int, weights: LineWeights) -> tuple[int, int]:
    """The range of lines to show: what matches the query best, and what follows it rather than what precedes it.

    `lines` are the `num_own` lines of a chunk and those after it in the file: what followed a similar place is what the
    cursor is about to need (RepoCoder moves its windows down for the same reason). Going on into the next chunk where
    there is room found 0.7 points more names in one repository and no fewer in another (benchmarks/retrieval.py).
    """
    chars = list(accumulate((len(line) + 1 for line in lines), initial=0))
    later_ends = _ends(chars, num_own)
    if (first_end := next(later_ends)) >= num_own:
        return 0, first_end
    ends = [first_end, *later_ends]
    before = list(accumulate(map(weights.__getitem__, lines[:num_own]), initial=0.0))
    best, best_score = 0, -1.0
    for start, end in enumerate(ends):
        # The first half of a range counts double, so that its second half shows what comes next.
        middle, last = min(num_own, (start + end) // 2), min(num_own, end)
        score = before[last] + before[middle] - 2 * before[start]
        if score > best_score + 1e-9:
            best, best_score = start, score
    return best, ends[best]


def _ends(chars: Sequence[int], num_starts: int) -> Iterator[int]:
    """Where the longest range of lines from each of the first ones ends that fits into a snippet; one line at least.
    Before each line stand so many characters."""
    end = 0
    for start in range(num_starts):
        last, most = min(len(chars) - 1, start + SNIPPET_LINES), chars[start] + SNIPPET_CHARS
        while end < last and chars[end + 1] <= most:
            end += 1
        yield max(start + 1, end)
