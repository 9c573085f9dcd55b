"""What may become of a job. Pure: `store` keeps what these functions return.

    queued ──lease──▶ running ──▶ done
      ▲                 │ ├─────▶ failed      it can't succeed: trying again would be no use
      ├──── a while ────┘ ├─────▶ poisoned    failed, or lost its worker, too often
      │  (failed, lost,   └─────▶ cancelled
      │   given back)
      └── retry ── failed, poisoned, cancelled

A lease ends unless its worker is heard from. Each has a number (fence) above all earlier ones about the same thing, so
a worker that was given up and comes back is known by its number, and refused.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from homespun_core.errors import ServiceError

Kind = Literal["index", "train", "evaluate", "notify"]
WORKER_KINDS: tuple[Kind, ...] = ("index", "train", "evaluate")
"""What workers do; the rest the server does itself."""
State = Literal["queued", "running", "done", "failed", "cancelled", "poisoned"]
Ending = Literal["done", "failed", "impossible", "given-back", "cancelled"]
"""What a worker says became of it. What failed may succeed at another time; the impossible doesn't."""

OPEN: frozenset[State] = frozenset(("queued", "running"))
ENDED: frozenset[State] = frozenset(("done", "failed", "cancelled", "poisoned"))
MAX_ATTEMPTS: dict[Kind, int] = {"index": 3, "train": 3, "evaluate": 3, "notify": 10}
"""Ten tries are about two hours: somebody else's server may be away as long."""
_FIRST_PAUSE_S = 10.0
_LONGEST_PAUSE_S = 3_600.0


class Refused(ServiceError):
    """It isn't in a state in which that can be."""


class LeaseLost(Refused):
    """It is somebody else's, or nobody's any more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """Times are seconds of the queue's clock, which is near the epoch's and never jumps."""

    id: int
    kind: Kind
    repository: str
    """What it is about: a repository's id, or what stands in its place for kinds that aren't about one."""
    source: str
    """The repository as the verbs of the command line know it, without credentials."""
    commit: str | None = None
    """The newest that was asked for; None is the newest there is."""
    priority: int = 0
    """Higher ones first."""
    state: State = "queued"
    attempts: int = 0
    not_before: float = 0.0
    fence: int = 0
    """Number of the last lease; 0 before the first."""
    worker: str | None = None
    lease_until: float | None = None
    is_unwanted: bool = False
    """Somebody cancelled it while it ran; its worker hears of it."""
    reason: str = ""
    """Why it failed, or waits."""
    asked_by: str = ""
    created: float = 0.0
    started: float | None = None
    ended: float | None = None
    fraction: float | None = None
    """Of the step that `words` name."""
    words: str = ""
    eta_s: float | None = None
    result: str = ""


def leased(job: Job, *, worker: str, fence: int, now: float, lease_s: float) -> Job:
    if job.state != "queued" or job.not_before > now:
        raise Refused(f"job {job.id} is {job.state}")
    assert fence > job.fence
    return replace(
        job,
        state="running",
        attempts=job.attempts + 1,
        fence=fence,
        worker=worker,
        lease_until=now + lease_s,
        reason="",
        started=now,
        fraction=None,
        words="",
        eta_s=None,
        result="",
    )


def beaten(job: Job, *, fence: int, now: float, lease_s: float) -> Job:
    """A sign of life. One that comes late is fine while nobody else has the job."""
    _check_lease(job, fence)
    return replace(job, lease_until=now + lease_s)


def reported(job: Job, *, fence: int, ending: Ending, reason: str, now: float, pause_s: float) -> Job:
    """The worker's last word. Raises LeaseLost."""
    _check_lease(job, fence)
    if ending == "done":
        return _ended(job, "done", reason, now)
    if job.is_unwanted or ending == "cancelled":
        return _ended(job, "cancelled", reason or job.reason, now)
    if ending == "impossible":
        return _ended(job, "failed", reason, now)
    if ending == "given-back":
        return _waiting(replace(job, attempts=job.attempts - 1), reason, now + pause_s)
    return _failed(job, reason, now, pause_s)


def lost(job: Job, *, now: float, pause_s: float) -> Job:
    """Its worker is silent, or known to be dead."""
    assert job.state == "running"
    reason = f"worker {job.worker} was not heard from any more"
    return _ended(job, "cancelled", reason, now) if job.is_unwanted else _failed(job, reason, now, pause_s)


def cancelled(job: Job, *, by: str, now: float) -> Job:
    """At once when it waits; a running one when its worker hears of it, or is lost."""
    reason = f"cancelled by {by}" if by else "cancelled"
    if job.state == "queued":
        return _ended(job, "cancelled", reason, now)
    if job.state == "running":
        return replace(job, is_unwanted=True, reason=reason)
    raise Refused(f"job {job.id} is {job.state} already")


def superseded(job: Job, by: int, now: float) -> Job:
    """It would wait beside a newer one about the same thing."""
    return _ended(job, "cancelled", f"job {by} takes its place" + (f" ({job.reason})" if job.reason else ""), now)


def retried(job: Job, *, now: float) -> Job:
    if job.state not in ("failed", "poisoned", "cancelled"):
        raise Refused(f"job {job.id} is {job.state}; only what failed, was cancelled or given up can be tried again")
    return _waiting(replace(job, attempts=0, ended=None), "", now)


def pause_s(attempts: int, chance: float) -> float:
    """Before the next try: longer each time, and never the same for all that failed together. `chance` is in [0, 1)."""
    return float(min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2 ** min(10, max(0, attempts - 1))) * (0.5 + chance))


def _check_lease(job: Job, fence: int) -> None:
    if job.state != "running" or job.fence != fence:
        raise LeaseLost(f"job {job.id}: this lease has ended; the job is {job.state}")


def _failed(job: Job, reason: str, now: float, pause_s: float) -> Job:
    if job.attempts >= MAX_ATTEMPTS[job.kind]:
        return _ended(job, "poisoned", reason, now)
    return _waiting(job, reason, now + pause_s)


def _waiting(job: Job, reason: str, not_before: float) -> Job:
    return replace(
        job,
        state="queued",
        not_before=not_before,
        worker=None,
        lease_until=None,
        is_unwanted=False,
        reason=reason,
        fraction=None,
        words="",
        eta_s=None,
    )


def _ended(job: Job, state: State, reason: str, now: float) -> Job:
    return replace(job, state=state, lease_until=None, is_unwanted=False, reason=reason, ended=now, eta_s=None)
