"""A measured value with its 95 % interval, as reports on disk have it and people read it."""

from __future__ import annotations

from collections.abc import Mapping

UNKNOWN = "not known"
"""An interval whose ends are None: places of one commit alone don't say how much others would differ."""


def spelled(estimate: Mapping[str, float | None], form: str) -> str:
    """A value that is None, since it was no finite number, has no interval either."""
    if estimate["value"] is None:
        return UNKNOWN
    value, ends = format(estimate["value"], form), (estimate["low"], estimate["high"])
    return f"{value} [{UNKNOWN if None in ends else ', '.join(format(end, form) for end in ends)}]"
