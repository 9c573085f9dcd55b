"""What looks random is not learned: keys, digests, numbers that nobody wants completed, secrets that no rule knew.

The second line of defence behind redaction, which goes by the forms of known secrets. Without it a random string that
stood in one example of a run of 42 steps became 4 bits more exposed than others like it (benchmarks/LOG.md).
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace

from homespun_core.types import Tokenizer
from homespun_trainer.examples import Batches, Example

_RUN = re.compile(rb"[A-Za-z0-9+/=_-]{10,}")
_LETTER_BY_DIGIT = re.compile(rb"(?<=[A-Za-z])(?=\d)|(?<=\d)(?=[A-Za-z])")
_NUMBER = re.compile(rb"\d(?:[ -]?\d){11,}")
_MIN_CHANGES, _MIN_SHARE = 4, 0.17
"""From letter to digit or back, and as a share of the length: 0.25 to 0.47 in random text, below 0.15 in names."""


def random_spans(text: bytes) -> list[tuple[int, int]]:
    """Where `text` has what nobody would spell out: many changes between letters and digits, or a long number."""
    mixed = [m.span() for m in _RUN.finditer(text) if _is_mixed(m.group())]
    return mixed + [m.span() for m in _NUMBER.finditer(text)]


class LearnableStream:
    """The examples of `stream`, with no weight on tokens of random strings. Where tokens aren't made of bytes (there
    `Tokenizer.spelled` is empty) examples stay as they are."""

    def __init__(self, stream: Batches, tokenizer: Tokenizer) -> None:
        self._stream, self._spelled = stream, tokenizer.spelled

    def batch(self, step: int, size: int) -> list[Example]:
        return [self._learnable(example) for example in self._stream.batch(step, size)]

    def _learnable(self, example: Example) -> Example:
        if not self._spelled:
            return example
        pieces = [self._spelled[i] or b"\0" for i in example.ids]
        unlearnable = set(_touched(pieces, random_spans(b"".join(pieces))))
        weights = tuple(0.0 if i in unlearnable else weight for i, weight in enumerate(example.weights))
        # An example without any weight would have nothing to divide its loss by.
        return replace(example, weights=weights) if any(weights) else example


def _is_mixed(run: bytes) -> bool:
    changes = len(_LETTER_BY_DIGIT.findall(run))
    return changes >= _MIN_CHANGES and changes >= _MIN_SHARE * len(run)


def _touched(pieces: Sequence[bytes], spans: Sequence[tuple[int, int]]) -> Iterator[int]:
    """Numbers of the pieces that have a byte of a span."""
    ends = list(itertools.accumulate(map(len, pieces)))
    for number, end in enumerate(ends):
        start = end - len(pieces[number])
        if any(start < last and first < end for first, last in spans):
            yield number
