"""How long what is remembered of completions is kept, by class. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from homespun_core.config import Settings
from homespun_core.errors import ConfigError
from homespun_core.repositories import nearest
from homespun_server.feedback.facts import EventKind

_NAME = "feedback_days_by_class"
_KINDS: Mapping[str, tuple[EventKind, ...]] = {
    "shown": ("shown",),
    "accepted": ("accepted",),
    "dismissed": ("dismissed",),
    "kept": ("kept", "saved"),
}
_SUMS = "sums"


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """In days."""

    completions: float
    """With whatever of their events isn't due earlier."""
    events: Mapping[EventKind, float]
    """Those that are due earlier than their completions."""
    sums: float
    """Numbers by day, which outlive what they were made of."""


def retention_of(settings: Settings) -> Retention:
    """Raises ConfigError."""
    whole = settings.feedback_days
    days = dict.fromkeys((*_KINDS, _SUMS), whole) | _written(settings.feedback_days_by_class)
    for name in _KINDS:
        if days[name] > whole:
            raise ConfigError(
                f"{_NAME}: {name}: {days[name]:g} is above feedback_days ({whole:g}): an event goes with its completion"
                " at the latest; set feedback_days higher"
            )
    if days[_SUMS] < whole:
        raise ConfigError(
            f"{_NAME}: {_SUMS}: {days[_SUMS]:g} is below feedback_days ({whole:g}), which they are made of"
        )
    events = {kind: days[name] for name, kinds in _KINDS.items() for kind in kinds if days[name] < whole}
    return Retention(completions=whole, events=events, sums=days[_SUMS])


def _written(text: str) -> dict[str, float]:
    parts = [part.strip() for part in text.split(",") if part.strip()]
    return dict(map(_class, parts))


def _class(part: str) -> tuple[str, float]:
    name, _, number = (word.strip() for word in part.partition(":"))
    if name not in (*_KINDS, _SUMS):
        raise ConfigError(f"{_NAME}: {name!r}: no such class{nearest(name, [*_KINDS, _SUMS], 'classes')}")
    try:
        days = float(number)
    except ValueError:
        days = 0.0
    if not 1 <= days < float("inf"):
        raise ConfigError(
            f"{_NAME}: {name}: {number!r} is no number of days from 1 on; write it as `shown: 30, sums: 400`"
        )
    return name, days
