"""What a candidate's time in the shadow says: whether people may try it. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, median, stdev
from typing import Literal

from homespun_server.shadow.facts import ShadowFact, Written

Verdict = Literal["wait", "go on", "reject"]

MIN_PLACES = 100
MIN_WRITTEN = 40
"""Lines that were written to their end; fewer say nothing about bits."""
_MAX_FAILED = 0.02
_MAX_SLOWER = 1.25
_SIGMAS = 3.0
"""It is looked at each minute, and lines of one person resemble one another: so far from chance, and not 1.6."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """In numbers, for people."""

    places: int
    failed: int
    agreement: float | None
    champion_ms: float | None
    candidate_ms: float | None
    written: int
    champion_right: float | None
    candidate_right: float | None
    bits_per_byte: float | None
    """Candidate less champion, on what was written in the end: below zero is better. None also of what is infinite, as
    where one of them gives a line no chance at all."""


def seen(facts: Sequence[ShadowFact]) -> Seen:
    made = [f for f in facts if not f.failed]
    written = [f.written for f in made if f.written is not None and f.written.bytes]  # an empty line says nothing
    size = sum(w.bytes for w in written)
    change = sum(w.candidate_bits - w.champion_bits for w in written)
    return Seen(
        places=len(facts),
        failed=len(facts) - len(made),
        agreement=fmean(f.agrees for f in made) if made else None,
        champion_ms=_median([f.champion_ms for f in made]),
        candidate_ms=_median([f.candidate_ms for f in made]),
        written=len(written),
        champion_right=fmean(w.champion_right for w in written) if written else None,
        candidate_right=fmean(w.candidate_right for w in written) if written else None,
        bits_per_byte=change / size if size and math.isfinite(change) else None,
    )


def decide(facts: Sequence[ShadowFact]) -> tuple[Verdict, str]:
    """With the reason. It finds what is broken; whether people are better off only people can say."""
    found = seen(facts)
    waiting = (
        f"in the shadow: {found.places} of {MIN_PLACES} places, {found.written} of {MIN_WRITTEN} lines that people"
        " wrote there"
    )
    if found.places < MIN_PLACES:
        return "wait", waiting
    if found.failed > _MAX_FAILED * found.places:  # before the lines: where it fails, none are compared
        return "reject", f"in the shadow it failed at {found.failed} of {found.places} places"
    if found.champion_ms and found.candidate_ms and found.candidate_ms > _MAX_SLOWER * found.champion_ms:
        return "reject", f"in the shadow a token took it {found.candidate_ms:.1f} ms instead of {found.champion_ms:.1f}"
    if found.written < MIN_WRITTEN:
        return "wait", waiting
    if found.bits_per_byte is None:
        return "reject", "what people wrote comes to no finite number of bits with it, or with the live one"
    if _is_surely_worse([f.written for f in facts if f.written is not None]):
        return "reject", f"what people wrote costs {found.bits_per_byte:+.3f} bits per byte with it"
    return "go on", "nothing was found against it in the shadow"


def _is_surely_worse(written: Sequence[Written]) -> bool:
    gains = [(w.candidate_bits - w.champion_bits) / w.bytes for w in written if w.bytes]
    return fmean(gains) > _SIGMAS * stdev(gains) / math.sqrt(len(gains))


def _median(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return median(known) if known else None
