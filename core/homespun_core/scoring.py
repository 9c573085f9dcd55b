"""How a completion is judged against what the developer wrote. One definition for training, gate and benchmarks."""

from __future__ import annotations

import re
from collections import Counter
from typing import Literal

_IDENTIFIER = re.compile(r"[^\W\d]\w*")


def normalised(text: str) -> str:
    """Trailing blanks of lines and blank lines at either end don't count."""
    return "\n".join(line.rstrip() for line in text.split("\n")).strip("\n").rstrip()


def exact_match(predicted: str, written: str) -> bool:
    return normalised(predicted) == normalised(written)


def edit_similarity(predicted: str, written: str) -> float:
    """1 - Levenshtein distance / longer length, as RepoCoder's `compute_score.py`; two empty texts are equal (1.0)."""
    a, b = normalised(predicted), normalised(written)
    longest = max(len(a), len(b))
    return 1.0 if longest == 0 else 1.0 - levenshtein(a, b) / longest


def levenshtein(a: str, b: str) -> int:
    if len(a) < len(b):
        a, b = b, a
    row = list(range(len(b) + 1))
    for i, ca in enumerate(a, 1):
        previous, row[0] = row[0], i
        for j, cb in enumerate(b, 1):
            previous, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, previous + (ca != cb))
    return row[-1]


def identifier_f1(predicted: str, written: str) -> float:
    """Harmonic mean of precision and recall over names, each as often as it stands there, as CrossCodeEval's. Keywords
    count as names, so that it means the same in every language; two texts without names are equal (1.0)."""
    a, b = (Counter(_IDENTIFIER.findall(text)) for text in (predicted, written))
    total = a.total() + b.total()
    return 1.0 if total == 0 else 2 * (a & b).total() / total


Ending = Literal["right", "early", "late"]


def ending(predicted: str, written: str) -> Ending | None:
    """Where a completion that is right as far as it goes ends, beside the developer's line; None where the two part
    before either ends: then there is no right place to stop any more. Nor does nothing end anywhere: most of that is
    what post-processing hides, such as a copy of the line above (12 of 16 places of kedro), and the model went on."""
    a, b = normalised(predicted), normalised(written)
    if a == b:
        return "right"
    if not a:
        return None
    if b.startswith(a):
        return "early"
    return "late" if a.startswith(b) else None
