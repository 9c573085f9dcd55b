"""What a candidate has to beat: what those people have now who would get it."""

from __future__ import annotations

from homespun_core import personal, registry
from homespun_core.registry import Adapter
from homespun_trainer import own
from homespun_trainer.job import Job


def live_adapter(job: Job) -> Adapter | None:
    """What people have who would get the job's, as servers decide it: their own as long as it stands on what everybody
    has, else that; in a repository without an adapter of its own the shared one that is lent. None is the base model.
    """
    digest = job.files.digest
    if job.is_shared:
        return own.live(job.adapters, digest)
    if personal.owner_of(job.id) is None:
        return own.served(job.data, job.id, digest)
    mine = own.live(job.adapters, digest)
    if mine is not None and (mine.on_top_of or "") == own.served_as(job.beneath):
        return mine
    return registry.load_adapter(job.beneath) if job.beneath else None


def in_words(control: Adapter | None) -> str:
    if control is None:
        return "the base model with the same snippets"
    return f"the adapter that people have, {own.served_as(control.path)}, with the same snippets"
