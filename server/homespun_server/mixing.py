"""What stands in the repository, as a voice in each decision for a token: what followed the longest end of the text
elsewhere is likelier than the model thinks, the more so the longer that is and the less the model knows.

As in kNN language models (Khandelwal et al., 2020), with the suffix array of the index in place of vectors. How much it
weighs was chosen by lines of public repositories (benchmarks/LOG.md).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from homespun_server.engine.protocol import Expectation, Ids, Mix

Lookup = Callable[[Sequence[int]], tuple[int, Mapping[int, int]]]
"""The length of the longest end of these ids found elsewhere, and how often each token stands after it there."""

MAX_CONTEXT = 48
_HALF = 20.0
"""A match of so many tokens has half of the weight that there is."""


def mixer(lookup: Lookup, ends: Ids) -> Mix:
    """Mixers for completions of one repository. `ends`: see `Mixer.ends`."""
    return lambda ids: RepositoryMixer(ids, lookup, ends)


class RepositoryMixer:
    """See `protocol.Mixer`."""

    def __init__(self, ids: Sequence[int], lookup: Lookup, ends: Ids) -> None:
        self._context, self._lookup, self.ends = [*ids[-MAX_CONTEXT:]], lookup, ends

    def expects(self, certainty: float) -> Expectation | None:
        if not can_matter(certainty):
            return None
        length, counts = self._lookup(self._context)
        total = sum(counts.values())
        if not total:
            return None
        shares = {token: count / total for token, count in counts.items()}
        return Expectation(weight_of(length, max(shares.values()), certainty), shares)

    def extend(self, token: int) -> None:
        self._context = [*self._context[-MAX_CONTEXT + 1 :], token]


def weight_of(length: int, share: float, certainty: float) -> float:
    """`length` of the match, `share` of its places that agree on one token."""
    return math.sqrt(max(0.0, 1 - certainty)) * share * length / (length + _HALF)


def can_matter(certainty: float) -> bool:
    """Whether any match could make another token likelier than the model's likeliest. Most tokens need no lookup."""
    most = weight_of(MAX_CONTEXT, 1.0, certainty)
    return (1 - most) * certainty <= most + (1 - most) * (1 - certainty)
