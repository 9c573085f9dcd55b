"""Where people ask for completions, by repository and language: the server counts it, and training weighs by it."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Mapping

from homespun_core import storage
from homespun_core.languages import language_named
from homespun_core.outcomes import Outcome
from homespun_core.paths import DataDir

logger = logging.getLogger(__name__)

DAYS = 30.0
"""Of feedback that it is counted from."""

Demand = Mapping[str, Mapping[str, int]]
"""Repository's id -> language as documents have it -> places where a completion was shown."""


def counted(outcomes: Iterable[Outcome]) -> Demand:
    found: dict[str, dict[str, int]] = {}
    for outcome in outcomes:
        language = language_named(outcome.language) if outcome.language else None
        if outcome.is_shown and outcome.repository and language is not None:
            of = found.setdefault(outcome.repository, {})
            of[language.name] = of.get(language.name, 0) + 1
    return found


def write(data: DataDir, demand: Demand) -> None:
    storage.write_atomic(data.demand, json.dumps(demand, indent=1, sort_keys=True) + "\n")


def read(data: DataDir) -> Demand:
    """Nothing where nothing was counted."""
    try:
        raw = json.loads(data.demand.read_text(encoding="utf-8"))
        return {str(repo): {str(name): int(n) for name, n in of.items()} for repo, of in raw.items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError, AttributeError) as error:
        logger.warning("%s: not used (%s)", data.demand, type(error).__name__)
        return {}
