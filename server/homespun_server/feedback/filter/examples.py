"""What a filter learns from: completions that somebody saw without asking for them. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from homespun_core.outcomes import Outcome
from homespun_server.feedback.filter.verdicts import EXPLORED

_DAY_S = 86_400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    features: Mapping[str, float]
    language: str | None
    kept_characters: int
    group: tuple[str, int]
    """User and day: what comes of completions of one sitting is alike."""
    weight: float
    """How many completions it stands for: few of those that would be hidden are shown."""


def examples(remembered: Iterable[tuple[Outcome, Mapping[str, float]]]) -> Sequence[Example]:
    return [_example(o, features) for o, features in remembered if o.is_shown and not features.get("is_invoked")]


def _example(outcome: Outcome, features: Mapping[str, float]) -> Example:
    return Example(
        features=features,
        language=outcome.language,
        kept_characters=outcome.kept_characters,
        group=(outcome.user, int(outcome.time // _DAY_S)),
        weight=1 / EXPLORED if outcome.verdict == "explore" else 1.0,
    )
