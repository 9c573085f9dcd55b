"""What is worth a notice: read from the registry, the ledger of fresh code and the queue. Pure. No code is in one."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from homespun_core.registry import Event
from homespun_core.retraining import FreshScore, Reception
from homespun_server.access.audit import Entry
from homespun_server.jobs.states import Job

_PROMOTING = ("promote", "offer", "approve")
_DECIDED = {
    "offer": "adapter.candidate",
    "rollback": "adapter.rolled_back",
    "reject": "adapter.turned_down",
    "retire": "adapter.retired",
    "pin": "adapter.pinned",
    "unpin": "adapter.unpinned",
}
_ENDED = {"done": "job.done", "failed": "job.failed", "poisoned": "job.failed", "cancelled": "job.cancelled"}
_ROUTINE = "index"
"""Done at every push, which is no news; that it failed is."""
_DONE_TO_PEOPLE = {
    "user.add": "user.added",
    "user.role": "user.changed",
    "user.email": "user.changed",
    "user.activate": "user.activated",
    "user.deactivate": "user.deactivated",
    "user.erase": "user.erased",
    "team.add": "team.changed",
    "team.rename": "team.changed",
    "team.remove": "team.changed",
    "team.join": "team.changed",
    "team.leave": "team.changed",
    "access.grant": "access.changed",
    "access.revoke": "access.changed",
    "token.create": "token.created",
    "token.revoke": "token.revoked",
    "token.refused": "token.refused",
}
"""Of the audit log's actions."""
_CHARACTERS = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    id: str
    """The same for the same happening, so that whoever gets it twice knows."""
    type: str
    time: str
    """UTC, ISO 8601."""
    data: Mapping[str, Any]

    def body(self) -> str:
        return json.dumps({"type": self.type, "timestamp": self.time, "data": dict(self.data)}, sort_keys=True)


def of_history(repository: str, events: Sequence[Event], seen: int) -> list[Notice]:
    """Of those after the first `seen`."""
    found = []
    for number, event in enumerate(events[seen:], seen):
        type = _type_of(event)
        if type is not None:
            data = {
                "repository": repository,
                "version": event.version,
                "live": event.champion,
                "by": event.by,
                "why": event.why[:_CHARACTERS],
            }
            found.append(Notice(id=f"history-{repository}-{number}", type=type, time=event.time, data=data))
    return found


def _type_of(event: Event) -> str | None:
    if event.what in _PROMOTING and event.version == event.champion:
        return "adapter.promoted"
    return _DECIDED.get(event.what)


def of_report(repository: str, version: str, report: Mapping[str, Any]) -> Notice | None:
    """What the gate turned down never gets into the history."""
    if report.get("promote", True):
        return None
    reasons = [str(reason)[:_CHARACTERS] for reason in report.get("reasons", [])]
    data = {"repository": repository, "version": version, "by": "gate", "why": "; ".join(reasons)}
    time = datetime.strptime(version[:15], "%Y%m%d-%H%M%S").replace(tzinfo=UTC)
    return Notice(id=f"gate-{repository}-{version}", type="adapter.turned_down", time=_iso(time), data=data)


def of_drift(repository: str, scores: Iterable[FreshScore]) -> list[Notice]:
    return [
        Notice(
            id=f"drift-{repository}-{score.at:.0f}",
            type="drift.alarm",
            time=_iso(datetime.fromtimestamp(score.at, UTC)),
            data={
                "repository": repository,
                "version": score.adapter,
                "bits_per_byte": round(score.bits_per_byte, 4),
                "drift_percent": None if score.drift_percent is None else round(score.drift_percent, 1),
                "places": score.places,
            },
        )
        for score in scores
        if score.is_alarm
    ]


def of_receptions(repository: str, receptions: Iterable[Reception]) -> list[Notice]:
    return [
        Notice(
            id=f"acceptance-{repository}-{found.at:.0f}",
            type="acceptance.alarm",
            time=_iso(datetime.fromtimestamp(found.at, UTC)),
            data={
                "repository": repository,
                "version": found.adapter,
                "accepted": round(found.lately, 4),
                "accepted_before": round(found.before, 4),
            },
        )
        for found in receptions
        if found.is_fall
    ]


def of_job(job: Job) -> Notice | None:
    type = _ENDED.get(job.state)
    if type is None or job.ended is None or (type == "job.done" and job.kind == _ROUTINE):
        return None
    data = {
        "job": job.id,
        "kind": job.kind,
        "repository": job.repository,
        "state": job.state,
        "attempts": job.attempts,
        "why": job.reason[:_CHARACTERS],
    }
    time = _iso(datetime.fromtimestamp(job.ended, UTC))
    return Notice(id=f"job-{job.id}-{job.fence}", type=type, time=time, data=data)


def of_problem(problem: str) -> Notice:
    """A snapshot that can't be served, as the console says it."""
    id = hashlib.sha256(problem.encode()).hexdigest()[:16]
    data = {"why": problem[:_CHARACTERS]}
    return Notice(id=f"problem-{id}", type="repository.failed", time=_iso(datetime.now(UTC)), data=data)


def of_entry(entry: Entry) -> Notice | None:
    """Ids of people, as in the audit log: no names, no addresses, and not where from."""
    type = _DONE_TO_PEOPLE.get(entry.action)
    if type is None:
        return None
    told = {"entry": entry.number, "action": entry.action, "object": entry.object, "by": entry.actor}
    time = _iso(datetime.fromtimestamp(entry.time_ms / 1e3, UTC))
    data = told | {"details": json.loads(entry.details)}
    return Notice(id=f"audit-{entry.number}", type=type, time=time, data=data)


def _iso(time: datetime) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ")
