"""Byte-level BPE of plain ASCII text, several times faster than the tokenizers library, with the same ids.

Such tokenizers first cut a text into words by a regular expression and then encode each word by itself. Code repeats
its words, so each is encoded once, by the library, and looked up afterwards. Whatever isn't certain to come out the
same (other normalisers or patterns, text beyond ASCII) is left to the library.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

Ids = NDArray[np.int32]
_EncodeWords = Callable[[Sequence[str]], Sequence[Sequence[int]]]

_MAX_WORDS = 1_000_000
"""Known at most; then all are forgotten. About 150 MB."""
_SAMPLE = (
    "def f(x2, *args):\n\n\t  return 'it''s' + \"We'LL\"  # TODO: 12345 ~~~\r\n   \n  if a_b == __C__:   \n"
    "\t\tx = {'k': [1.5e-3]}\x0b \x0c\x1c\x00 >>>\n\n    \n$%&/()=?don't  END \n "
)


class WordEncoder:
    """`encode_words` encodes strings one by one as the tokenizer would if each were a text."""

    def __init__(
        self, pattern: re.Pattern[str], encode_words: Callable[[Sequence[str]], Sequence[Sequence[int]]]
    ) -> None:
        self._find = pattern.findall
        self._encode_words = encode_words
        self._known: dict[str, tuple[int, ...]] = {}
        """Of `encode_one`: plain objects are quicker than arrays for a few hundred words."""
        self._numbers: dict[str, int] = {}
        self._ids: Ids = np.zeros(0, np.int32)
        self._starts: NDArray[np.int64] = np.zeros(0, np.int64)
        self._counts: NDArray[np.int64] = np.zeros(0, np.int64)

    @staticmethod
    def for_tokenizer(spec: dict[str, Any], encode_words: _EncodeWords) -> WordEncoder | None:
        """The encoder for a tokenizer.json; None where the fast way isn't known to give the same ids."""
        pattern = _pattern(spec)
        if pattern is None:
            return None
        encoder = WordEncoder(pattern, encode_words)
        texts = [_SAMPLE, *_SAMPLE.split(" "), _SAMPLE * 2]
        expected = encode_words(texts)
        is_same = all(np.array_equal(a, b) for a, b in zip(encoder.encode(texts), expected, strict=True))
        return encoder if is_same else None

    def encode(self, texts: Sequence[str]) -> list[Ids]:
        """Texts must be ASCII."""
        if not texts:
            return []
        found = [self._find(text) for text in texts]
        self._learn(set().union(*found))
        lengths = [len(words) for words in found]
        numbers = np.fromiter(map(self._numbers.__getitem__, chain.from_iterable(found)), np.int64, sum(lengths))
        counts = self._counts[numbers]
        ends = np.cumsum(counts)
        total = int(ends[-1]) if len(ends) else 0
        ids = self._ids[np.arange(total) + np.repeat(self._starts[numbers] - (ends - counts), counts)]
        text_ends = np.concatenate([[0], ends])[np.cumsum(lengths)]
        return np.split(ids, text_ends[:-1])

    def encode_one(self, text: str) -> tuple[int, ...]:
        """One text of some thousand characters, which must be ASCII; may be called by several threads."""
        known, words = self._known, self._find(text)
        new = [word for word in set(words) if word not in known]
        if new:
            if len(known) > _MAX_WORDS:
                known = self._known = {}
                new = list(set(words))
            known.update(zip(new, map(tuple, self._encode_words(new)), strict=True))
        return tuple(chain.from_iterable(map(known.__getitem__, words)))

    def _learn(self, words: set[str]) -> None:
        new = words.difference(self._numbers)
        if not new:
            return
        if len(self._numbers) + len(new) > _MAX_WORDS:
            self._forget()
            new = words
        encoded = self._encode_words(list(new))
        counts = np.fromiter(map(len, encoded), np.int64, len(new))
        starts = len(self._ids) + np.cumsum(counts) - counts
        first = len(self._numbers)
        self._numbers.update(zip(new, range(first, first + len(new)), strict=True))
        self._ids = np.concatenate([self._ids, np.fromiter(chain.from_iterable(encoded), np.int32, int(counts.sum()))])
        self._starts, self._counts = np.concatenate([self._starts, starts]), np.concatenate([self._counts, counts])

    def _forget(self) -> None:
        self._numbers.clear()
        self._ids, self._starts, self._counts = self._ids[:0], self._starts[:0], self._counts[:0]


def _pattern(spec: dict[str, Any]) -> re.Pattern[str] | None:
    """The cutting expression for ASCII text; None for tokenizers of another make."""
    model, normalizer = spec.get("model") or {}, spec.get("normalizer") or {"type": "NFC"}
    if model.get("type") != "BPE" or model.get("dropout") or normalizer.get("type") not in ("NFC", "NFKC", "NFD"):
        return None
    steps = spec.get("pre_tokenizer") or {}
    match steps.get("pretokenizers") if steps.get("type") == "Sequence" else None:
        case [
            {"type": "Split", "pattern": {"Regex": str(expression)}, "behavior": "Isolated", "invert": False},
            {"type": "ByteLevel", "add_prefix_space": False, "use_regex": False},
        ]:
            return _in_ascii(expression)
    return None


def _in_ascii(expression: str) -> re.Pattern[str] | None:
    """The same expression where all characters are ASCII; None if it says something that we don't know."""
    out, is_class, i = "", False, 0
    classes = {r"\p{L}": "a-zA-Z", r"\p{N}": "0-9"}
    while i < len(expression):
        if expression[i : i + 5] in classes:
            inner = classes[expression[i : i + 5]]
            out, i = out + (inner if is_class else f"[{inner}]"), i + 5
        elif expression[i] == "\\":
            if expression[i + 1 : i + 2] not in tuple("srnSd"):
                return None
            out, i = out + expression[i : i + 2], i + 2
        else:
            is_class = {"[": True, "]": False}.get(expression[i], is_class)
            out, i = out + expression[i], i + 1
    if "(" in out.replace("(?i:", "").replace("(?!", "").replace("(?:", ""):
        return None  # a group would change what findall returns
    return re.compile(out, re.ASCII)
