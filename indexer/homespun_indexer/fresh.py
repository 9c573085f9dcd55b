"""Lines that developers wrote lately, as places to see how an adapter does on code it wasn't trained on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import takewhile

from homespun_core.config import Settings
from homespun_core.paths import DataDir
from homespun_core.types import EvalTask
from homespun_indexer import tasks
from homespun_indexer.corpus import left_out, request_for
from homespun_indexer.git import GitFailed
from homespun_indexer.history import Step, steps
from homespun_indexer.repository import Repository
from homespun_indexer.tasks import Place

_MAX_STEPS = 200
"""Of these the newest: what is drifting is what is written now."""


def fresh_places(repo: Repository, settings: Settings, data: DataDir, *, since: str, count: int) -> list[EvalTask]:
    """At most `count` places of the newest commits after `since`; none when that commit is no ancestor of the head.

    `seen` is False throughout: it isn't looked for.
    """
    found: list[Place] = []
    reason = left_out(request_for(repo, settings, data))
    for step in _steps_since(repo, since):
        found += tasks.spread(tasks.places(step, Counter(), reason), settings.seed)
        if len(found) >= 2 * count:  # some of them turn out not to fit their file
            break
    spread = tasks.spread(found, settings.seed)
    return tasks.tasks_at(repo, spread, lambda place: False, settings.seed, count)


def _steps_since(repo: Repository, since: str) -> Iterator[Step]:
    """Newest first, along the main line."""
    try:
        repo.git.text("merge-base", "--is-ancestor", since, repo.head)
    except GitFailed:
        return iter(())
    options = ["--first-parent", f"--max-count={_MAX_STEPS}", "--end-of-options"]
    new = frozenset(repo.git.text("rev-list", *options, repo.head, f"^{since}").split())
    return takewhile(lambda step: step.commit in new, steps(repo, len(new)))
