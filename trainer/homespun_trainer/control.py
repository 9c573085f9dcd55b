"""What a candidate has to beat, and where: what its people have now, at places which that has not learned from."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from homespun_core import personal, registry
from homespun_core.registry import Adapter
from homespun_core.types import EvalTask
from homespun_trainer import own
from homespun_trainer.gate import MIN_COMMITS, MIN_TASKS
from homespun_trainer.heads import corpus_of, held_out_of
from homespun_trainer.job import Job, Part


@dataclass(frozen=True, slots=True, kw_only=True)
class Control:
    """What a candidate is held against, with the same snippets on both sides."""

    adapter: Adapter | None
    """None is the base model."""
    is_fair: Sequence[bool]
    """Of each of the job's places: whether they are compared there."""
    passed_over: str | None = None
    """For people: what it would have been, and why it isn't."""

    @property
    def name(self) -> str:
        """As servers call it; empty for the base model."""
        return own.served_as(self.adapter.path if self.adapter else None)

    @property
    def in_words(self) -> str:
        if self.adapter is None:
            return "the base model with the same snippets"
        count, places = sum(self.is_fair), len(self.is_fair)
        where = "" if count == places else f" at the {count} of {places} places that it has not learned from"
        return f"the adapter that people have, {self.name}, with the same snippets{where}"


def control_of(job: Job, parent: Path | None) -> Control:
    """Of what people have, the first that has learned from few enough of the places; else the base model.

    A champion has learned from them when the cut has moved back since (`eval_tasks` was raised), or when whole files
    were held out from it and other ones, or commits, are now. No candidate would beat it there. `parent` is what the
    candidate was trained on top of: what that has learned, both have.
    """
    passed_over: list[str] = []
    for adapter in _people_have(job):
        is_fair = [True] * len(job.tasks) if adapter.path == parent else _is_fair(job, adapter)
        if all(is_fair) or _are_enough([t for t, fair in zip(job.tasks, is_fair, strict=True) if fair]):
            return Control(adapter=adapter, is_fair=is_fair, passed_over=_said(passed_over))
        counted = f"all but {sum(is_fair)} of the {len(is_fair)} places"
        passed_over.append(f"{own.served_as(adapter.path)}, which people have, has learned from {counted}")
    return Control(adapter=None, is_fair=[True] * len(job.tasks), passed_over=_said(passed_over))


def is_settled(report: Mapping[str, Any], now: Control) -> bool:
    """Whether the gate would say again what it said, as far as that hangs on what people have. Reports of before they
    said what that was are left at that."""
    return bool(report.get("promote")) or report.get("control_adapter", now.name) == now.name


def live_adapter(job: Job) -> Adapter | None:
    """What people have who would get the job's, as servers decide it: their own as long as it stands on what everybody
    has, else that; in a repository without an adapter of its own the shared one that is lent. None is the base model.
    """
    return next(iter(_people_have(job)), None)


def _people_have(job: Job) -> list[Adapter]:
    """And what they would have without that, if the candidate is for one person."""
    digest = job.files.digest
    if personal.owner_of(job.id) is None:
        live = own.live(job.adapters, digest) if job.is_shared else own.served(job.data, job.id, digest)
        return [live] if live else []
    mine, beneath = own.live(job.adapters, digest), own.served_as(job.beneath)
    found = [mine] if mine is not None and (mine.on_top_of or "") == beneath else []
    return [*found, registry.load_adapter(job.beneath)] if job.beneath else found


def _is_fair(job: Job, adapter: Adapter) -> list[bool]:
    known = [(part.corpus.tasks, _learned(adapter, part)) for part in job.parts]
    return [not has_learned(task) for tasks, has_learned in known for task in tasks]


def _learned(adapter: Adapter, part: Part) -> Callable[[EvalTask], bool]:
    """Whether it was trained on what stands at a place of the part: it knows all that was written up to its own cut,
    but for files held out. One that names no commit of the main line is taken to know nothing, as it was made
    before history was rewritten."""
    cut, held_out = corpus_of(adapter.report, part.id).get("commit"), held_out_of(adapter.report, part.id)
    later = part.corpus.commits_after(str(cut)) if cut else None
    if later is None:
        return lambda task: False
    return lambda task: task.commit not in later and task.path not in held_out


def _are_enough(tasks: Sequence[EvalTask]) -> bool:
    return len(tasks) >= MIN_TASKS and len({task.commit for task in tasks}) >= MIN_COMMITS


def _said(passed_over: Sequence[str]) -> str | None:
    return "; ".join(passed_over) or None
