"""What is worth a notice: read from the registry, the ledger of fresh code and the queue. Pure. No code is in one."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from homespun_core.registry import Event
from homespun_core.retraining import FreshScore
from homespun_server.jobs.states import Job

_PROMOTING = ("promote", "offer", "approve")
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
    return {"rollback": "adapter.rolled_back", "reject": "adapter.turned_down"}.get(event.what)


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


def of_job(job: Job) -> Notice | None:
    if job.state not in ("failed", "poisoned") or job.ended is None:
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
    return Notice(id=f"job-{job.id}-{job.fence}", type="job.failed", time=time, data=data)


def _iso(time: datetime) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ")
