"""Completions that begin with given bytes: which tokens may come next.

A prompt is cut at tokens and a cursor stands between characters. What the last tokens of a prompt spell is therefore
taken out of it and spelled again by the completion, in whatever tokens the model likes ("token healing").
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence

import numpy as np

from homespun_server.engine.protocol import Constraint, Ids


class Vocabulary:
    """spelled: by id, the bytes of a token; None for tokens that are no text."""

    def __init__(self, spelled: Sequence[bytes | None]) -> None:
        order = sorted((bytes, number) for number, bytes in enumerate(spelled) if bytes)
        self.spelled = spelled
        self._sorted = [bytes for bytes, _ in order]
        self._ids = np.array([number for _, number in order], np.int64)

    def beginning(self, opening: bytes) -> Callable[[], Constraint]:
        return lambda: Spelling(self, opening)

    def starting(self, text: bytes) -> Ids:
        """Tokens that spell `text`, and perhaps more."""
        low = bisect_left(self._sorted, text)
        return self._ids[low : bisect_right(self._sorted, text, low, key=lambda token: token[: len(text)])]

    def spelling(self, text: bytes) -> Ids:
        """Tokens that spell exactly `text`."""
        low = bisect_left(self._sorted, text)
        return self._ids[low : bisect_right(self._sorted, text, low)]


class Spelling:
    """See `protocol.Constraint`."""

    def __init__(self, vocabulary: Vocabulary, opening: bytes) -> None:
        self._vocabulary, self._rest = vocabulary, opening

    def allowed(self) -> Ids | None:
        rest = self._rest
        if not rest:
            return None
        parts = [self._vocabulary.starting(rest), *(self._vocabulary.spelling(rest[:n]) for n in range(1, len(rest)))]
        ids: Ids = np.concatenate(parts)
        return ids if len(ids) else None  # such bytes can't be spelled

    def advance(self, token: int) -> None:
        if self._rest:
            self._rest = self._rest[len(self._vocabulary.spelled[token] or self._rest) :]
