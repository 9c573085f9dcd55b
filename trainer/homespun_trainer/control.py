"""What a candidate has to beat, and where: what its people have now, at places that neither has learned from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from homespun_core import personal, registry
from homespun_core.registry import Adapter
from homespun_core.types import EvalTask
from homespun_trainer import own
from homespun_trainer.gate import MIN_COMMITS, MIN_TASKS
from homespun_trainer.job import Job, Part
from homespun_trainer.lineage import HasLearned, Member, lineage_of


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
        count, places = sum(self.is_fair), len(self.is_fair)
        where = (
            "" if count == places else f" at the {count} of {places} places that neither of the two has learned from"
        )
        what = f"the adapter that people have, {self.name}," if self.adapter else "the base model"
        return f"{what} with the same snippets{where}"


def control_of(job: Job, parent: Path | None) -> Control:
    """Of what people have, the first that can be compared at places enough; else the base model.

    A champion has learned from them when the cut has moved back since (`eval_tasks` was raised), or when whole files
    were held out from it and other ones, or commits, are now. No candidate would beat it there. `parent`, what the
    candidate was trained on top of, may have been made of newer code than the candidate: that would beat anything. What
    both stand on gives neither an advantage.
    """
    passed_over: list[str] = []
    ours = lineage_of(parent, job.data)
    for adapter in _people_have(job):
        theirs = lineage_of(adapter.path, job.data)
        is_fair = _is_fair(job, theirs, ours)
        if all(is_fair) or _are_enough([t for t, fair in zip(job.tasks, is_fair, strict=True) if fair]):
            return Control(adapter=adapter, is_fair=is_fair, passed_over=_said(passed_over))
        name, counted = own.served_as(adapter.path), f"all but {sum(is_fair)} of the {len(is_fair)} places"
        whose = " or what the new one stands on" if ours.keys() - theirs.keys() else ""
        passed_over.append(f"{name}, which people have,{whose} has learned from {counted}")
    is_fair = _is_fair(job, {}, ours)
    if not all(is_fair):
        places = f"all but {sum(is_fair)} of the {len(is_fair)} places"
        passed_over.append(f"what the new one stands on has learned from {places}, or doesn't say")
    return Control(adapter=None, is_fair=is_fair, passed_over=_said(passed_over))


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


def _is_fair(job: Job, theirs: Mapping[str, Member], ours: Mapping[str, Member]) -> list[bool]:
    """Where nobody has learned from a place whom the other one doesn't stand on as well. Who doesn't say what they saw
    is taken to know nothing of those that people have, and everything of those that the candidate stands on: the gate
    must not let pass what it doesn't know to be better."""
    found: list[bool] = []
    for part in job.parts:
        learned = [*_learned(part, theirs, ours, lambda task: False), *_learned(part, ours, theirs, lambda task: True)]
        found += [not any(has_learned(task) for has_learned in learned) for task in part.corpus.tasks]
    return found


def _learned(
    part: Part, members: Mapping[str, Member], others: Mapping[str, Member], unsaid: HasLearned
) -> list[HasLearned]:
    apart = [member for key, member in members.items() if key not in others]
    return [member.has_learned(part.id, part.corpus.commits_after) or unsaid for member in apart]


def _are_enough(tasks: Sequence[EvalTask]) -> bool:
    return len(tasks) >= MIN_TASKS and len({task.commit for task in tasks}) >= MIN_COMMITS


def _said(passed_over: Sequence[str]) -> str | None:
    return "; ".join(passed_over) or None
