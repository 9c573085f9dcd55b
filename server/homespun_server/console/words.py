"""Numbers and times as people read them. Pure; the templates' filters."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime

_UNITS = ((86_400 * 2, 86_400, "days"), (3_600 * 2, 3_600, "hours"), (120, 60, "minutes"))


def count(number: float) -> str:
    return f"{number:,.0f}"


def size(num_bytes: float) -> str:
    for unit in ("bytes", "kB", "MB", "GB"):
        if num_bytes < 1_000 or unit == "GB":
            return f"{num_bytes:,.0f} {unit}" if unit == "bytes" or num_bytes >= 10 else f"{num_bytes:.1f} {unit}"
        num_bytes /= 1_000
    raise AssertionError("the last unit returns")


def percent(share: float | None) -> str:
    return "–" if share is None else f"{share:.0%}"


def milliseconds(ms: float | None) -> str:
    return "–" if ms is None else f"{ms:,.0f} ms"


def decimal(number: float | None) -> str:
    return "–" if number is None else f"{number:.2f}"


def ago(seconds: float | None) -> str:
    """How long something is past."""
    if seconds is None:
        return "unknown"
    return "just now" if seconds < 5 else f"{duration(seconds)} ago"


def duration(seconds: float) -> str:
    for least, unit, name in _UNITS:
        if seconds >= least:
            return f"{seconds / unit:.0f} {name}"
    return f"{seconds:.0f} seconds"


def when(at: float) -> str:
    """Seconds since 1970 as UTC."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M UTC")


def age_s(iso: str | None, now: float) -> float | None:
    """Of a time as snapshots write it; None for one that can't be read."""
    try:
        return max(0.0, now - datetime.fromisoformat(iso or "").timestamp())
    except ValueError:
        return None


FILTERS: Mapping[str, Callable[..., str]] = {
    "count": count,
    "size": size,
    "percent": percent,
    "milliseconds": milliseconds,
    "decimal": decimal,
    "duration": duration,
    "ago": ago,
    "when": when,
}
