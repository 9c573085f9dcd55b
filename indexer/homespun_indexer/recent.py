"""Where a file was written lately: hunks of the history that still stand as they were written. Pure."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping

from homespun_indexer.history import AddedLines, Step

STEPS = 400
"""How far back is lately."""
_MOST_RANGES = 30
_MOST_TRIES = 1_000
"""Each looks through all of the file."""
_MOST_LINES = 40
"""More at once is a new file, not an edit."""
_MIN_CHARACTERS = 8

Ranges = tuple[tuple[int, int], ...]


def recent_lines(steps: Iterable[Step], texts: Mapping[str, str]) -> dict[str, Ranges]:
    """For each path of `texts` the lines that a step added, as 0-based (first, last), newest first.

    A hunk is found again by its text: it counts where it stands exactly once, so changes around it don't matter.
    """
    found: defaultdict[str, dict[tuple[int, int], None]] = defaultdict(dict)
    tried: Counter[str] = Counter()
    for step in steps:
        if step.reason is not None:
            continue
        for file in step.files:
            text, known = texts.get(file.path), found[file.path]
            for added in file.added if text is not None else ():
                if len(known) >= _MOST_RANGES or tried[file.path] >= _MOST_TRIES:
                    break
                tried[file.path] += 1
                if (place := _place(added, text or "")) is not None:
                    known.setdefault(place)
    return {path: tuple(ranges) for path, ranges in found.items() if ranges}


def _place(added: AddedLines, text: str) -> tuple[int, int] | None:
    hunk = "\n".join(added.lines).strip("\n")
    lines = hunk.count("\n") + 1
    if lines > _MOST_LINES or sum(c.isalnum() for c in hunk) < _MIN_CHARACTERS:
        return None
    whole, wanted = f"\n{text}\n", f"\n{hunk}\n"
    at = whole.find(wanted)
    if at < 0 or whole.find(wanted, at + 1) >= 0:
        return None
    first = whole.count("\n", 0, at)
    return first, first + lines - 1
