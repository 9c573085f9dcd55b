"""Voices in each decision for a token beside the model's: what followed the longest end of the text elsewhere, in the
repository and in the file itself, of which a prompt holds a part only, with what editors send of others.

As in kNN language models (Khandelwal et al., 2020), with matches in place of vectors. `benchmarks/voices.py` learns how
much a match counts from lines that people wrote.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from homespun_core.prompt import anchored
from homespun_core.types import Tokenizer
from homespun_indexer.datastore import MAX_CONTEXT
from homespun_server.engine.protocol import Chances, Expectation, Ids, Mix

Lookup = Callable[[Sequence[int]], tuple[int, Mapping[int, int]]]
"""The length of the longest end of these ids found elsewhere, and how often each token stands after it there."""

CERTAIN = 0.99
"""No voice is asked where the model gives its likeliest token so much. Of 2,643 lines, none came out differently for
it; of their tokens, an eighth needs no lookup."""
_MAX_ABOVE, _MAX_BELOW = 8_000, 4_000
"""Characters: as many as our editors send. Others may send whole files."""
_MAX_BESIDE = 8_000
_NEAR = 2_500
"""Characters above the cursor that are encoded anew with each keystroke."""
_GAP = -1


@dataclass(frozen=True, slots=True)
class Around:
    """A file around the cursor, as tokens."""

    above: Sequence[int]
    """Up to where the completion begins: a word that it spells again isn't in here."""
    below: Sequence[int]
    beside: Sequence[Sequence[int]] = ()
    """Pieces of other files, which an index may not know yet: what editors send along."""

    @staticmethod
    def cursor(tokenizer: Tokenizer, prefix: str, suffix: str, opening: str, beside: Iterable[str] = ()) -> Around:
        """`opening`: see `Prompt.opening`. What stands further above is encoded by itself, so that a keystroke leaves
        it as the tokenizer knows it: all of it takes a millisecond."""
        text = prefix.removesuffix(opening)
        near = anchored(text, len(text) - _NEAR, len(text))
        far = text[anchored(text, len(text) - _MAX_ABOVE, len(text)) : near]
        above = [*tokenizer.encode(far), *tokenizer.encode(text[near:])]
        below = tokenizer.encode(suffix[:_MAX_BELOW])
        return Around(above, below, [tokenizer.encode(piece) for piece in _within_limit(beside)])


@dataclass(frozen=True, slots=True)
class Match:
    """What follows the longest end of the text that was found elsewhere."""

    length: int
    counts: Mapping[int, int]
    """By token that may follow."""
    places: int
    """Where it was found, also before tokens that may not."""
    share: float
    """Of the places, those that agree on one token, or that the line ends there."""

    @property
    def features(self) -> tuple[float, float, float, float]:
        """What its odds are made of."""
        return 1.0, math.log(min(self.length, MAX_CONTEXT)), self.share, math.log(self.places)


@dataclass(frozen=True, slots=True)
class Odds:
    """How much a match counts, the model being one: exp(bias + length ln(tokens) + share share + count ln(places))."""

    bias: float
    length: float
    share: float
    count: float

    def of(self, match: Match) -> float:
        weights = (self.bias, self.length, self.share, self.count)
        return math.exp(sum(w * feature for w, feature in zip(weights, match.features, strict=True)))


# Learned from 2,643 lines of six repositories, and rounded (benchmarks/LOG.md, 2026-11-30).
REPOSITORY = Odds(bias=-5.1, length=1.5, share=2.0, count=0.25)
FILE = Odds(bias=-4.1, length=1.1, share=2.2, count=0.4)


def mixer(around: Around, lookup: Lookup | None, ends: Ids) -> Mix:
    """Mixers for completions at one place. `lookup`: in its repository, if that is known; `ends`: see `Mixer.ends`."""
    return lambda: Voices(around, lookup, ends)


class Voices:
    """See `protocol.Mixer`."""

    def __init__(self, around: Around, lookup: Lookup | None, ends: Ids) -> None:
        self._context, self._lookup, self.ends = [*around.above[-MAX_CONTEXT:]], lookup, ends
        self._end_ids = frozenset(ends.tolist())
        self._file = FilePlaces(around)

    def expects(self, chances: Chances, allowed: Ids | None) -> Expectation | None:
        certainty = self._certainty(chances, allowed)
        if not certainty < CERTAIN:  # nor where it is no number
            return None
        unsure = math.sqrt(1 - certainty)
        heard = [(unsure * odds.of(match), match) for odds, match in self.matches(allowed)]
        if not heard:
            return None
        of_all = sum(odds for odds, _ in heard)
        shares = dict[int, float]()
        for odds, match in heard:
            for token, count in match.counts.items():
                shares[token] = shares.get(token, 0.0) + odds / of_all * count / match.places
        return Expectation(of_all / (1 + of_all), shares)

    def matches(self, allowed: Ids | None) -> Iterator[tuple[Odds, Match]]:
        """In the repository and in the file, where there is one before a token that may follow."""
        for odds, (length, counts) in ((REPOSITORY, self._found()), (FILE, self._file.followers(allowed))):
            match = self._match(length, counts, allowed)
            if match is not None:
                yield odds, match

    def extend(self, token: int) -> None:
        self._context = [*self._context[-MAX_CONTEXT + 1 :], token]
        self._file.extend(token)

    def _certainty(self, chances: Chances, allowed: Ids | None) -> float:
        """Of the likeliest token that may follow, or of all ends together.

        Where not all may follow, chances aren't shared out anew among those that may: a model that foresaw another word
        than the one that was begun knows less of this one, too (0.3 points fewer lines, benchmarks/LOG.md)."""
        if allowed is None:
            return max(float(chances.max()), float(chances[self.ends].sum()))
        ends = np.intersect1d(self.ends, allowed)
        return max(float(chances[allowed].max()), float(chances[ends].sum()))

    def _found(self) -> tuple[int, Mapping[int, int]]:
        return self._lookup(self._context) if self._lookup is not None else (0, {})

    def _match(self, length: int, counts: Mapping[int, int], allowed: Ids | None) -> Match | None:
        may_follow = counts if allowed is None else _within(counts, allowed)
        if not may_follow:
            return None
        of_end = sum(count for token, count in may_follow.items() if token in self._end_ids)
        most = max(of_end, *(count for token, count in may_follow.items() if token not in self._end_ids), 0)
        places = sum(counts.values())
        return Match(length, may_follow, places, most / places)


def _within_limit(pieces: Iterable[str]) -> Iterator[str]:
    """The first ones that are short enough together, without those that are too long for what is left."""
    left = _MAX_BESIDE
    for piece in pieces:
        if len(piece) <= left:
            left -= len(piece)
            yield piece


class FilePlaces:
    """How many tokens before each place of a file, and of what is beside it, are the end of the text. A token more
    costs a look at every place of some thousand, a few microseconds."""

    def __init__(self, around: Around) -> None:
        texts = (around.above, around.below, *around.beside)
        tokens = np.array([id for text in texts for id in (*text, _GAP)], dtype=np.int32)
        self._tokens, self._next = tokens[:-1], tokens[1:]
        self._is_followed = self._next != _GAP
        self._lengths = np.zeros(len(self._tokens), np.int16)
        matching = self._is_followed.copy()
        for before, token in enumerate(reversed(around.above[-MAX_CONTEXT:])):
            matching[:before] = False
            matching[before:] &= self._tokens[: len(self._tokens) - before] == token
            if not matching.any():
                break
            self._lengths += matching

    def extend(self, token: int) -> None:
        lengths = np.zeros_like(self._lengths)
        lengths[1:] = self._lengths[:-1]
        self._lengths = np.where(self._tokens == token, lengths + np.int16(1), np.int16(0))

    def followers(self, allowed: Ids | None) -> tuple[int, Mapping[int, int]]:
        """As a `Lookup`, but that places count only before a token that may follow."""
        places = np.flatnonzero((self._lengths > 0) & self._is_followed)
        if allowed is not None:
            places = places[np.isin(self._next[places], allowed)]
        if not len(places):
            return 0, {}
        lengths = self._lengths[places]
        longest = lengths.max()
        return int(longest), Counter(self._next[places[lengths == longest]].tolist())


def _within(counts: Mapping[int, int], allowed: Ids) -> dict[int, int]:
    tokens = np.fromiter(counts, np.int64, len(counts))
    return {token: counts[token] for token in tokens[np.isin(tokens, allowed)].tolist()}
