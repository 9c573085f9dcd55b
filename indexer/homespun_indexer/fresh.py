"""Lines that developers wrote lately, as places to see how an adapter does on code it wasn't trained on."""

from __future__ import annotations

from collections import Counter

from homespun_core.config import Settings
from homespun_core.types import EvalTask
from homespun_indexer import files, filters, tasks
from homespun_indexer.git import GitFailed
from homespun_indexer.history import Step, steps
from homespun_indexer.repository import Repository
from homespun_indexer.tasks import Place
from homespun_indexer.tree import BlobReader

_MAX_STEPS = 200
"""Of these the newest: what is drifting is what is written now."""


def fresh_places(repo: Repository, *, settings: Settings, since: str, count: int) -> list[EvalTask]:
    """At most `count` places of the newest commits after `since`; none when that commit is no ancestor of the head.

    `seen` is False throughout: it isn't looked for.
    """
    found: list[Place] = []
    refused: Counter[str] = Counter()
    selected = {c.path for c in files.select(repo, settings=settings, commit=repo.head).candidates}
    for step in _steps_since(repo, since):
        places = tasks.places(step, refused, lambda path: None if path in selected else filters.EXCLUDED)
        found += tasks.spread(places, settings.seed)
        if len(found) >= 2 * count:  # some of them turn out not to fit their file
            break
    with BlobReader(repo) as blobs:
        made = (_task(place, blobs, settings.seed) for place in tasks.spread(found, settings.seed))
        return [task for task in made if task is not None][:count]


def _steps_since(repo: Repository, since: str) -> list[Step]:
    """Newest first, along the main line."""
    try:
        repo.git.text("merge-base", "--is-ancestor", since, repo.head)
    except GitFailed:
        return []
    options = ["--first-parent", f"--max-count={_MAX_STEPS}", "--end-of-options"]
    new = repo.git.text("rev-list", *options, repo.head, f"^{since}").split()
    known = set(new)
    return [step for step in steps(repo, len(new)) if step.commit in known] if new else []


def _task(place: Place, blobs: BlobReader, seed: int) -> EvalTask | None:
    new, old = (_text(blobs, blob) for blob in (place.new_blob, place.old_blob))
    return tasks.task(place, new, old, lambda line: False, seed) if new else None


def _text(blobs: BlobReader, blob: str) -> str:
    """Empty where there is none: a new file's old blob is all zeros."""
    raw = blobs.find(blob) if blob.strip("0") else None
    return filters.decode_source(raw)[0] if raw is not None else ""
