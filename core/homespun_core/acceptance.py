"""How many of the completions that were shown were accepted, by repository and week: counted by the server, looked at
beside drift. Numbers, of nobody in particular."""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from homespun_core import storage
from homespun_core.outcomes import Reception
from homespun_core.paths import DataDir

logger = logging.getLogger(__name__)

DAYS = 56.0
"""Of feedback that it is counted from."""
_WEEK_S = 7 * 86_400.0
_LATELY, _BEFORE = 2, 4
LATELY_S, COMPARED_S = _LATELY * _WEEK_S, (_LATELY + _BEFORE) * _WEEK_S
"""Weeks: the current one and the last are held against those before."""
_LEAST_SHOWN = 200
_FALL, _RECOVERED = 0.2, 0.1
"""So much less than before, in parts of it: people and their work vary by less from month to month. Of an alarm, so
much less ends it: a share between the two would raise and end one each day."""
_SURELY = 3.0
"""Standard errors. Completions of one person aren't independent of one another, so more than the usual two."""

Weeks = Mapping[str, tuple[int, int]]
"""ISO week (2026-W48) -> shown, accepted."""
Acceptance = Mapping[str, Weeks]
"""By the repository's id."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    lately: float
    """Share of the shown completions that were accepted."""
    before: float
    is_fall: bool


def week_of(at: float) -> str:
    return time.strftime("%G-W%V", time.gmtime(at))


def counted(receptions: Iterable[Reception]) -> Acceptance:
    found: dict[str, dict[str, tuple[int, int]]] = {}
    for one in receptions:
        if one.shown and one.repository:
            of, week = found.setdefault(one.repository, {}), week_of(one.time)
            shown, accepted = of.get(week, (0, 0))
            of[week] = shown + one.shown, accepted + one.accepted
    return found


def added(each: Iterable[Weeks]) -> Weeks:
    """What several repositories come to together."""
    found: dict[str, tuple[int, int]] = {}
    for weeks in each:
        for week, (shown, accepted) in weeks.items():
            before = found.get(week, (0, 0))
            found[week] = before[0] + shown, before[1] + accepted
    return found


def change(weeks: Weeks, now: float) -> Change | None:
    """None where too few were shown to say. Whether less is accepted is asked of numbers that chance doesn't make."""
    shown, accepted = _together(weeks, now, range(_LATELY))
    shown_before, accepted_before = _together(weeks, now, range(_LATELY, _LATELY + _BEFORE))
    if min(shown, shown_before) < _LEAST_SHOWN:
        return None
    lately, before = accepted / shown, accepted_before / shown_before
    both = (accepted + accepted_before) / (shown + shown_before)
    error = math.sqrt(both * (1 - both) * (1 / shown + 1 / shown_before))
    is_fall = lately < before * (1 - _FALL) and before - lately > _SURELY * error
    return Change(lately=lately, before=before, is_fall=is_fall)


def has_recovered(lately: float, before: float) -> bool:
    """From a fall, of what it was before that."""
    return lately >= before * (1 - _RECOVERED)


def write(data: DataDir, found: Acceptance) -> None:
    storage.write_atomic(data.acceptance, json.dumps(found, indent=1, sort_keys=True) + "\n")


def read(data: DataDir) -> Acceptance:
    """Nothing where nothing was counted."""
    try:
        raw = json.loads(data.acceptance.read_text(encoding="utf-8"))
        return {
            str(id): {str(week): (int(shown), int(accepted)) for week, (shown, accepted) in of.items()}
            for id, of in raw.items()
        }
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError, AttributeError) as error:
        logger.warning("%s: not used (%s)", data.acceptance, type(error).__name__)
        return {}


def _together(weeks: Weeks, now: float, ago: Iterable[int]) -> tuple[int, int]:
    found = [weeks.get(week_of(now - n * _WEEK_S), (0, 0)) for n in ago]
    return sum(shown for shown, _ in found), sum(accepted for _, accepted in found)
