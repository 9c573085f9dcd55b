"""How far a rollout has come, what it waits for, and when the one after it must be undone. Pure.

shadow    nobody gets it; it completes silently what the live one does (`shadow/`), if that comes first
canary    `canary_percent` of the users; ends early only by a rejection
half      half of them, as soon as nothing is proven against it after a while; ends by a verdict, or after a week
          without one as everybody's: the gate has found it better, and users not worse
watched   everybody; compared with what its predecessor's users did before
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Literal

from homespun_core.config import Settings
from homespun_server.feedback.sums import SETTLED_S
from homespun_server.feedback.tallies import Arm, total
from homespun_server.rollout.decision import ALPHA, Decision, decide

Stage = Literal["shadow", "canary", "half"]
ShadowUse = Literal["none", "beside", "first"]
"""Whether candidates complete in the shadow of the live adapter: never, as long as they are tried, or before that."""
HALF_PERCENT = 50.0
DAY_S = 86_400.0
_STAGE_ALPHA = ALPHA / 2
"""Each stage is a test of its own, on its own outcomes: those of a user who changed arms mean something else before."""
_WATCH_ALPHA = ALPHA / 5
"""Before and after differ in more than the adapter, so it takes more to undo than to reject."""


def shadow_use(settings: Settings) -> ShadowUse:
    if not settings.shadow_percent:
        return "none"
    return "first" if settings.rollout == "automatic" else "beside"


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    min_days: float = 1.0
    """Of the first stage, before half of the users get it."""
    half_days: float = 7.0
    """Of the second, before everybody gets what nothing is proven against."""
    min_outcomes: int = 200
    """Of the candidate's, in each."""
    settled_s: float = SETTLED_S


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    candidate: str
    champion: str | None
    """What it is compared with."""
    stage: Stage = "canary"
    since: float
    """Beginning of the stage, seconds since 1970."""
    reason: str = ""
    """What was found when it was looked at last."""


def going_on(
    state: State | None, candidate: str, champion: str | None, now: float, shadow: ShadowUse = "none"
) -> State:
    """The state to judge by: with another champion the stage stays, and its evidence begins anew. A stage that began
    when the clock was ahead begins now."""
    if state is None or state.candidate != candidate:
        first: Stage = "shadow" if shadow == "first" else "canary"
        return State(candidate=candidate, champion=champion, stage=first, since=now)
    if state.champion != champion:
        return replace(state, champion=champion, since=now, reason="")
    return replace(state, since=min(state.since, now))


@dataclass(frozen=True, slots=True, kw_only=True)
class Arms:
    champion: Arm
    candidate: Arm


def share_percent(state: State | None, candidate: str, canary_percent: float, shadow: ShadowUse = "none") -> float:
    """Of the users who get the candidate. Never shrinks on the way."""
    stage = state.stage if state is not None and state.candidate == candidate else None
    if shadow == "first" and stage in (None, "shadow"):
        return 0.0
    is_half = stage == "half"
    return max(canary_percent, HALF_PERCENT) if is_half else canary_percent


def advance(state: State, found: Arms, now: float, limits: Limits) -> tuple[State, Decision]:
    """The state from now on, and the verdict. `found`: what came of completions since the stage began."""
    decision = decide(found.champion, found.candidate, _STAGE_ALPHA)
    is_half = state.stage == "half"
    if decision.verdict == "reject" or (is_half and decision.verdict == "approve"):
        return replace(state, reason=decision.reason), decision
    missing = _missing(state, total(found.candidate).opportunities, now, limits)
    if is_half:
        reason = f"{decision.reason}; {missing}" if missing else f"nothing is proven against it; {decision.reason}"
        return replace(state, reason=reason), Decision(verdict="wait" if missing else "approve", reason=reason)
    waiting = Decision(verdict="wait", reason=missing or "nothing is proven against it, half of the users get it now")
    if missing:
        return replace(state, reason=missing), waiting
    return replace(state, stage="half", since=now, reason=waiting.reason), waiting


def regression(before: Arm, after: Arm, previous: str | None) -> str | None:
    """Why the champion has to go that everybody has had since; None while nothing is proven against it.

    Only users of both times count, as if they were others: what they have in common makes the proof harder, not easier.
    """
    both = before.keys() & after.keys()
    decision = decide(_of_users(both, before), _of_users(both, after), _WATCH_ALPHA)
    if decision.verdict != "reject":
        return None
    return f"{decision.reason}; compared with {previous or 'the base model'} before, not side by side"


def _of_users(users: Collection[str], arm: Arm) -> Arm:
    return {user: tally for user, tally in arm.items() if user in users}


def _missing(state: State, num_outcomes: int, now: float, limits: Limits) -> str:
    """What the stage still waits for, if nothing is proven; empty when nothing."""
    is_half = state.stage == "half"
    least, who = (limits.half_days, "everybody gets") if is_half else (limits.min_days, "half of the users get")
    days = least - (now - state.since) / DAY_S
    outcomes = limits.min_outcomes - num_outcomes
    parts = [f"{days:.1f} days" if days > 1 else f"{days * 24:.1f} hours"] if days > 0 else []
    parts += [f"{outcomes} completions of the candidate"] if outcomes > 0 else []
    return f"{who} it after another {' and '.join(parts)}" if parts else ""
