"""Guesses at the next tokens, for the engine to verify: a wrong one costs a little time and never changes the text.

Where the end of the text stood before (in the prompt's prefix, suffix and snippets, in what was generated, in
completions shown lately), what followed there may follow again. Each such place votes for its next token, with the
length of its match; votes become chances, and the likeliest nodes the tree.

Ids are kept as characters of a string, since `str.rfind` looks through a thousand of them in a microsecond: bytes
take twice as long, as their matches needn't lie on an id's border, and dicts of n-grams 0.1 to 0.2 ms to build.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable, Sequence
from heapq import heappop, heappush

from homespun_server.engine.protocol import Draft, Tree

Lookup = Callable[[Sequence[int], int], Sequence[int]]
"""Up to so many ids that followed the end of these elsewhere."""

_MAX_MATCH = 8
"""6 and 12 were the same."""
_PLACES_PER_LENGTH = 8
"""With 4, 1 % slower; 16 were no better."""
_MAX_PLACES = 12
"""24 were the same, and took longer where all is alike."""
_LATEST = 1.7
"""So much more counts the latest place of the longest match: 0.53 ms a token; 0.55 when all count the same."""
_DISCOUNT = 2 / 3
"""Votes taken off every alternative: what stood once among many places is worth less than its share."""
_DOUBT = 5 / 3
"""Votes for what stood at none of the places. Together they give a lone match of 1, 2, 4 tokens a chance of 31, 54,
72 %; the latest of the longest matches was right at 33, 45, 73 % of 1,355, 516, 222 places in unseen files."""
_BEFORE = 8
"""Ids kept from before a completion, to find its beginning by. 4 and 16 were no better."""
_MAX_CONTEXT = 48
_MAX_FROM_DATASTORE = 4
_DATASTORE_VOTES = 2
"""Like a match of two nearby. With as many as match there, 3 at least, steps were longer and decided hardly more."""
_GAP = chr(sys.maxunicode)
"""Between texts. No vocabulary has an id that large."""


class Recent:
    """Completions shown or accepted lately. One for each repository and tenant: how fast a completion comes would tell
    another tenant what is in it. Added to by one thread, read by any."""

    def __init__(self, size: int = 20) -> None:
        self._texts: deque[str] = deque(maxlen=size)
        self.text = ""
        """All of them, latest last, for drafters."""

    def add(self, before: Sequence[int], ids: Sequence[int]) -> None:
        """`before`: the prompt; only its end is kept."""
        if not ids:
            return
        text = _text([*before[-_BEFORE:], *ids]) + _GAP
        if text in self._texts:
            self._texts.remove(text)
        self._texts.append(text)
        self.text = "".join(self._texts)


def drafter(datastore: Lookup | None = None, recent: Recent | None = None) -> Draft:
    """Drafters for completions of one repository.

    The datastore is asked where nothing nearby matches. It pays only for models slower than the built-in one: it saves
    1 to 4 % of the steps' time, 0.006 to 0.03 ms a token, and asking takes 0.03 to 0.1.
    """

    def draft(ids: Sequence[int]) -> TreeDrafter:
        return TreeDrafter(ids, recent.text if recent else "", datastore)

    return draft


class TreeDrafter:
    """See `protocol.Drafter`."""

    def __init__(self, ids: Sequence[int], recent: str, datastore: Lookup | None) -> None:
        self._text = recent + _text(ids)
        self._start = len(recent)
        self._datastore = datastore

    def propose(self, max_nodes: int, min_chance: float) -> Tree:
        if max_nodes <= 0:
            return Tree()
        places = _places(self._text, self._start)
        if places or self._datastore is None:
            return _tree(self._text, places, max_nodes, min_chance)
        return self._from_datastore(self._datastore, max_nodes, min_chance)

    def extend(self, ids: Sequence[int]) -> None:
        self._text += _text(ids)

    def _from_datastore(self, datastore: Lookup, max_nodes: int, min_chance: float) -> Tree:
        context = [*map(ord, self._text[max(self._start, len(self._text) - _MAX_CONTEXT) :])]
        chain = datastore(context, min(max_nodes, _MAX_FROM_DATASTORE))
        return _tree(_text(chain), [(0, _DATASTORE_VOTES, 1)], max_nodes, min_chance)


_Place = tuple[int, float, float]
"""Where the token that follows stands, its votes, and those that each further token adds. A named tuple makes all of
this half as slow again."""


def _text(ids: Sequence[int]) -> str:
    return "".join(map(chr, ids))


def _places(text: str, start: int) -> list[_Place]:
    """Where the longest ends of `text` stood before, longest first and the latest of equals. The end is looked for from
    `start` on, its places everywhere."""
    last, find = len(text) - 1, text.rfind
    length, longest = 0, min(_MAX_MATCH, len(text) - start)
    while length < longest and find(text[last - length :], 0, last) >= 0:
        length += 1
    found: dict[int, _Place] = {}
    for size in range(length, 0, -1):
        end, before = text[last + 1 - size :], last
        for _ in range(_PLACES_PER_LENGTH):
            at = find(end, 0, before) + size
            if at < size:
                break
            before = at - 1
            if at not in found:
                weight = 1.0 if found else _LATEST
                found[at] = (at, size * weight, weight)
        if len(found) >= _MAX_PLACES:
            break
    return [*found.values()]


def _tree(text: str, places: list[_Place], max_nodes: int, min_chance: float) -> Tree:
    """The likeliest continuations at these places, likeliest first; a node is never likelier than its parent."""
    ids: list[int] = []
    parents: list[int] = []
    waiting: list[tuple[float, int, int, str, list[_Place]]] = []
    node, chance, serial = -1, 1.0, 0
    while True:
        for token, (share, agreeing) in _votes(text, places).items():
            if chance * share >= min_chance:
                serial += 1
                heappush(waiting, (-chance * share, serial, node, token, agreeing))
        if not waiting or len(ids) == max_nodes:
            return Tree(tuple(ids), tuple(parents))
        chance, _, parent, token, places = heappop(waiting)
        chance, node = -chance, len(ids)
        ids.append(ord(token))
        parents.append(parent)


def _votes(text: str, places: list[_Place]) -> dict[str, tuple[float, list[_Place]]]:
    """By token that follows at these places: its chance there, and the places after it."""
    agreeing: dict[str, list[_Place]] = {}
    votes: dict[str, float] = {}
    for at, vote, weight in places:
        if at < len(text) and (token := text[at]) != _GAP:
            after = (at + 1, vote + weight, weight)
            if token in agreeing:
                agreeing[token].append(after)
                votes[token] += vote
            else:
                agreeing[token], votes[token] = [after], vote
    total = sum(votes.values()) + _DOUBT
    return {token: ((votes[token] - _DISCOUNT) / total, after) for token, after in agreeing.items()}
