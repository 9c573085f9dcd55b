"""Makes a filter of what became of completions, and decides whether it may be used. Pure.

By time: the oldest half is learned from, the next quarter calibrates and sets thresholds, and the newest quarter, which
nothing was chosen by, judges. Hiding can't win by itself: what judges is the share of kept characters that is lost.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from homespun_core.errors import HomespunError
from homespun_server.feedback.filter import calibration
from homespun_server.feedback.filter.examples import Example
from homespun_server.feedback.filter.regression import (
    Array,
    Fit,
    calibration_error,
    fit,
    log_losses,
)
from homespun_server.feedback.filter.verdicts import Filter

MIN_SHOWN = 2_000
"""With a quarter of them, a perfectly calibrated filter measures an error of 0.03 by chance; see MAX_ERROR."""
MOST_SHOWN = 100_000
"""Older ones are left: training holds all in memory, and some thousands tell what these do."""
MIN_OF_EACH = 200
"""Kept ones, and others."""
MIN_OF_LANGUAGE = 300
"""Examples of a language, in the quarter that sets thresholds, for a threshold of its own."""
MAX_ERROR = 0.05
MAX_LOST = 0.05
_AIM_LOST = 0.02
"""Thresholds aim lower than the limit, as later completions differ from those that set them."""
MIN_HIDDEN = 0.05
MIN_SIGMAS = 3.0
"""How surely it must foretell better than one probability for all, in standard errors."""
_PENALTY = 3.0
_RARE = 20
"""A feature that fewer examples have is left out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One of the gate's conditions, with what was measured."""

    name: str
    value: float
    limit: float
    is_met: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Lost:
    """What hiding does to a group of later completions: shares of them, and of their kept characters."""

    num_shown: int
    hidden: float
    lost: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Before:
    """The filter that is live, where a new one was turned down: judged by the same completions."""

    version: str
    judged: Lost
    is_withdrawn: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    num_shown: int
    num_kept: int
    checks: tuple[Check, ...]
    judged: Lost
    languages: dict[str, Lost]
    """Those with thresholds of their own; where too much is lost, nothing is hidden from now on."""
    before: Before | None = None

    @property
    def is_approved(self) -> bool:
        return all(check.is_met for check in self.checks)


class TooLittleDataError(HomespunError):
    pass


def train(examples: Sequence[Example], version: str, live: Filter | None = None) -> tuple[Filter, Report]:
    """`examples` by time. Raises TooLittleDataError, which says how many are missing."""
    _check_enough(examples)
    n = len(examples)
    learned, calibrated, judged = examples[: n // 2], examples[n // 2 : n * 3 // 4], examples[n * 3 // 4 :]
    filter = _with_thresholds(_curved(_fitted(learned, calibrated, version), calibrated), calibrated)
    report = _report(filter, examples, judged, _base_rate(learned))
    if live is not None and not report.is_approved:
        report = replace(report, before=_still_good(live, judged))
    spared = {name: 0.0 for name, found in report.languages.items() if found.lost > MAX_LOST}
    return replace(filter, thresholds={**filter.thresholds, **spared}), report


def _check_enough(examples: Sequence[Example]) -> None:
    kept = sum(bool(e.kept_characters) for e in examples)
    found = {"shown completions": (len(examples), MIN_SHOWN), "kept": (kept, MIN_OF_EACH)}
    found["not kept"] = (len(examples) - kept, MIN_OF_EACH)
    missing = [
        f"{need - have:,} more {name} ({have:,} of {need:,})" for name, (have, need) in found.items() if have < need
    ]
    if missing:
        raise TooLittleDataError(
            f"show/hide filter: {', '.join(missing)} needed; collect feedback longer, or look further back with --days"
        )


def _fitted(learned: Sequence[Example], calibrated: Sequence[Example], version: str) -> Filter:
    """Standardised for the fit, calibrated after Platt, then all of it folded into one set of weights."""
    names = _names(learned)
    x, y, weight = _matrix(learned, names), _kept(learned), _weights(learned)
    means, spreads = x.mean(axis=0), np.maximum(x.std(axis=0), 1e-6)
    found = fit((x - means) / spreads, y, weight, penalty=_PENALTY)
    raw = Fit(intercept=found.intercept - found.weights @ (means / spreads), weights=found.weights / spreads)
    logits = raw.logits(_matrix(calibrated, names))[:, None]
    platt = fit(logits, _kept(calibrated), _weights(calibrated), penalty=1e-3)
    slope = float(platt.weights[0])
    return Filter(
        version=version,
        intercept=platt.intercept + slope * raw.intercept,
        weights=dict(zip(names, (slope * raw.weights).tolist(), strict=True)),
        spreads=dict(zip(names, spreads.tolist(), strict=True)),
        threshold=0.0,
        thresholds={},
    )


def _curved(filter: Filter, calibrated: Sequence[Example]) -> Filter:
    """With isotonic calibration behind the slope, where that foretells surely better."""
    p = _foretold(filter, calibrated)
    return replace(filter, knots=calibration.chosen(p, _kept(calibrated), _weights(calibrated)))


def _with_thresholds(filter: Filter, calibrated: Sequence[Example]) -> Filter:
    counts = Counter(e.language for e in calibrated)
    own = {
        language: _threshold(filter, [e for e in calibrated if e.language == language])
        for language, count in sorted(counts.items(), key=str)
        if language is not None and count >= MIN_OF_LANGUAGE
    }
    return replace(filter, threshold=_threshold(filter, calibrated), thresholds=own)


def _threshold(filter: Filter, examples: Sequence[Example]) -> float:
    """The highest below which no more than the share aimed at is kept."""
    p, kept = _foretold(filter, examples), _characters(examples)
    order = np.argsort(p, kind="stable")
    lost = np.cumsum(kept[order])
    first_too_many = int(np.searchsorted(lost, _AIM_LOST * lost[-1], side="right"))
    return float(p[order[first_too_many]]) if first_too_many < len(order) else 0.0


def _report(filter: Filter, examples: Sequence[Example], judged: Sequence[Example], base_rate: float) -> Report:
    found = _lost(filter, judged)
    p, y, weight = _foretold(filter, judged), _kept(judged), _weights(judged)
    error, sigmas = calibration_error(p, y, weight), _sigmas(filter, judged, base_rate)
    checks = (
        Check(name="calibration error", value=error, limit=MAX_ERROR, is_met=error <= MAX_ERROR),
        Check(name="kept characters lost", value=found.lost, limit=MAX_LOST, is_met=found.lost <= MAX_LOST),
        Check(name="completions hidden", value=found.hidden, limit=MIN_HIDDEN, is_met=found.hidden >= MIN_HIDDEN),
        Check(name="standard errors above no filter", value=sigmas, limit=MIN_SIGMAS, is_met=sigmas >= MIN_SIGMAS),
    )
    by_language = {name: [e for e in judged if e.language == name] for name in filter.thresholds}
    return Report(
        num_shown=len(examples),
        num_kept=sum(bool(e.kept_characters) for e in examples),
        checks=checks,
        judged=found,
        languages={name: _lost(filter, members) for name, members in by_language.items()},
    )


def _still_good(live: Filter, judged: Sequence[Example]) -> Before:
    found = _lost(live, judged)
    return Before(version=live.version, judged=found, is_withdrawn=found.lost > MAX_LOST)


def _lost(filter: Filter, examples: Sequence[Example]) -> Lost:
    """All is lost where nothing is there to tell by."""
    is_hidden = np.array([filter.is_unlikely(e.features, e.language) for e in examples], dtype=bool)
    weight, kept = _weights(examples), _characters(examples)
    return Lost(
        num_shown=len(examples),
        hidden=float(weight[is_hidden].sum() / weight.sum()) if len(examples) else 0.0,
        lost=float(kept[is_hidden].sum() / kept.sum()) if kept.sum() else 1.0,
    )


def _sigmas(filter: Filter, judged: Sequence[Example], base_rate: float) -> float:
    """How much likelier the filter finds what happened than one probability for all does, in standard errors. What
    happens in one sitting hangs together, so a sitting is the unit."""
    p = np.clip(_foretold(filter, judged), 1e-9, 1 - 1e-9)
    y, plain = _kept(judged), np.full(len(judged), _logit(base_rate))
    gains = _weights(judged) * (log_losses(plain, y) - log_losses(np.log(p / (1 - p)), y))
    groups = {group: n for n, group in enumerate(dict.fromkeys(e.group for e in judged))}
    sums = np.bincount([groups[e.group] for e in judged], gains)
    spread = float(np.sqrt(((sums - sums.mean()) ** 2).sum()))
    return float(sums.sum()) / spread if spread else 0.0


def _base_rate(examples: Sequence[Example]) -> float:
    return float(_kept(examples) @ _weights(examples) / _weights(examples).sum())


def _logit(p: float) -> float:
    p = min(max(p, 1e-9), 1 - 1e-9)
    return float(np.log(p / (1 - p)))


def _names(examples: Sequence[Example]) -> list[str]:
    counts = Counter(name for e in examples for name in e.features)
    return sorted(name for name, count in counts.items() if count >= _RARE)


def _matrix(examples: Sequence[Example], names: Sequence[str]) -> Array:
    return np.array([[e.features.get(name, 0.0) for name in names] for e in examples], dtype=np.float64)


def _foretold(filter: Filter, examples: Sequence[Example]) -> Array:
    return np.array([filter.probability(e.features) for e in examples])


def _kept(examples: Sequence[Example]) -> Array:
    return np.array([float(e.kept_characters > 0) for e in examples])


def _characters(examples: Sequence[Example]) -> Array:
    """Each for as many completions as it stands for."""
    return np.array([e.kept_characters * e.weight for e in examples])


def _weights(examples: Sequence[Example]) -> Array:
    return np.array([e.weight for e in examples])
