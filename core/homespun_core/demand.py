"""Where people ask for completions, by repository and language, and where they keep them, by file: the server counts
it, and training weighs by it."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Mapping
from pathlib import Path

from homespun_core import storage
from homespun_core.languages import language_named
from homespun_core.outcomes import Outcome, Reception
from homespun_core.paths import DataDir

logger = logging.getLogger(__name__)

DAYS = 30.0
"""Of feedback that it is counted from."""

Demand = Mapping[str, Mapping[str, int]]
"""Repository's id -> language as documents have it -> places where a completion was shown."""

KeptByFile = Mapping[str, Mapping[str, int]]
"""Repository's id -> path -> characters that were kept there. Only completions that the server keeps say their file."""


def counted(receptions: Iterable[Reception]) -> Demand:
    found: dict[str, dict[str, int]] = {}
    for one in receptions:
        language = language_named(one.language) if one.language else None
        if one.shown and one.repository and language is not None:
            of = found.setdefault(one.repository, {})
            of[language.name] = of.get(language.name, 0) + one.shown
    return found


def kept_by_file(outcomes: Iterable[Outcome], files: Mapping[str, str]) -> KeptByFile:
    """`files`: completion -> path."""
    found: dict[str, dict[str, int]] = {}
    for outcome in outcomes:
        path = files.get(outcome.completion)
        if path is not None and outcome.repository and outcome.kept_characters:
            of = found.setdefault(outcome.repository, {})
            of[path] = of.get(path, 0) + outcome.kept_characters
    return found


def write(data: DataDir, demand: Demand, kept: KeptByFile) -> None:
    for path, counts in ((data.demand, demand), (data.kept_by_file, kept)):
        storage.write_atomic(path, json.dumps(counts, indent=1, sort_keys=True) + "\n")


def read(data: DataDir) -> Demand:
    """Nothing where nothing was counted."""
    return _read(data.demand)


def read_kept(data: DataDir) -> KeptByFile:
    return _read(data.kept_by_file)


def _read(path: Path) -> Mapping[str, Mapping[str, int]]:
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        return {str(repo): {str(name): int(n) for name, n in of.items()} for repo, of in raw.items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError, AttributeError) as error:
        logger.warning("%s: not used (%s)", path, type(error).__name__)
        return {}
