"""Takes candidates through the stages of a rollout, and undoes the last one where users are worse off."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from functools import partial
from pathlib import Path

from homespun_core import registry
from homespun_core.aliases import Aliases, Refused
from homespun_core.paths import DataDir
from homespun_core.registry import Event
from homespun_server.feedback.store import FeedbackStore
from homespun_server.rollout import state as states
from homespun_server.rollout.control import control
from homespun_server.rollout.decision import Decision
from homespun_server.rollout.observed import observed
from homespun_server.rollout.stages import DAY_S, Arms, Limits, ShadowUse, State, advance, going_on, regression
from homespun_server.shadow import facts as shadows
from homespun_server.shadow.decision import decide as decide_shadow

logger = logging.getLogger(__name__)

BY = "rollout"
"""Who it is in the history."""
_POLL_S = 60.0
_IDLE = 20.0
"""Times what a round took: where there are very many outcomes, completions need the cores more."""
_FORWARD = ("offer", "approve", "promote")
"""What a champion is watched after; one that a rollback brought back isn't, else it could go on to the first."""


class RolloutFollower:
    def __init__(
        self,
        data: DataDir,
        store: FeedbackStore,
        *,
        canary_percent: float,
        watch_days: float,
        shadow: ShadowUse = "none",
        approval: str = "automatic",
        limits: Limits | None = None,
        poll_s: float = _POLL_S,
    ) -> None:
        """With `approval` manual it makes nothing everybody's, which waits for a person; it rejects and rolls back."""
        self._data, self._store, self._approval = data, store, approval
        self._canary_percent, self._watch_days = canary_percent, watch_days
        self._limits, self._poll_s, self._shadow = limits or Limits(), poll_s, shadow
        self._watched: dict[tuple[str, str, float], float] = {}
        """By place, champion and when it became that: the same, or the first look at it where that is yet to come."""
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="rollout", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def look(self, now: float | None = None) -> None:
        """One round over all repositories; what is wrong with one of them must not hold up the others."""
        root = self._data.all_adapters
        for place in sorted(p for p in root.iterdir() if p.is_dir()) if root.is_dir() else []:
            try:
                self._look_at(place, time.time() if now is None else now)
            except Exception:  # a job loop: see above
                logger.exception("the rollout of %s can't be looked at", place.name)

    def _follow(self) -> None:
        pause = self._poll_s
        while not self._stop.wait(pause):
            began = time.monotonic()
            self.look()
            pause = max(self._poll_s, (time.monotonic() - began) * _IDLE)

    def _look_at(self, place: Path, now: float) -> None:
        names = registry.aliases(place)
        if names.candidate is None:
            states.discard(place)
            shadows.discard(place)
        elif self._canary_percent or self._shadow == "first":
            self._advance(place, names, names.candidate, now)
        self._watch(place, registry.aliases(place), now)

    def _advance(self, place: Path, names: Aliases, candidate: str, now: float) -> None:
        others = control(place, candidate, names.champion)
        before = going_on(states.read(place), candidate, others, now, self._shadow)
        if before.stage == "shadow":
            self._leave_shadow(place, before, now)
            return
        seen = observed(self._store, place, candidate, (others, candidate), before.since, self._settled(now))
        found = Arms(champion=seen[others], candidate=seen[candidate])
        after, decision = advance(before, found, now, self._limits)
        states.write(place, after)
        if after.stage != before.stage:
            logger.info("rollout of %s in %s: %s", candidate, place.name, after.reason)
        if decision.verdict != "wait":
            self._end(place, after, decision)

    def _leave_shadow(self, place: Path, before: State, now: float) -> None:
        """Users try it next; where none are to, it is everybody's."""
        verdict, reason = decide_shadow(shadows.read(place, before.candidate, before.champion))
        if verdict == "go on" and self._canary_percent:
            states.write(place, replace(before, stage="canary", since=now, reason=reason))
            logger.info("rollout of %s in %s: %s, users try it now", before.candidate, place.name, reason)
            return
        states.write(place, state := replace(before, reason=reason))
        if verdict != "wait":
            self._end(place, state, Decision(verdict="reject" if verdict == "reject" else "approve", reason=reason))

    def _end(self, place: Path, state: State, decision: Decision) -> None:
        if decision.verdict == "approve" and self._approval == "manual":
            return
        change = registry.approve if decision.verdict == "approve" else registry.reject
        try:
            change(place, by=BY, why=decision.reason, only=state.candidate)
        except Refused as error:  # pinned, or a person was faster
            logger.info("rollout of %s in %s: %s, but %s", state.candidate, place.name, decision.verdict, error)
            return
        states.discard(place)
        logger.info("rollout of %s in %s: %s, %s", state.candidate, place.name, decision.verdict, decision.reason)

    def _watch(self, place: Path, names: Aliases, now: float) -> None:
        noted = watched_since(registry.history(place), names.champion)
        watch_s = self._watch_days * DAY_S
        if names.champion is None or names.pinned or noted is None:
            return
        key = (place.name, names.champion, noted)
        since = self._watched[key] = min(self._watched.get(key, noted), now)
        if now - since > watch_s:
            return
        as_long_before = since - min(watch_s, max(DAY_S, now - since))
        seen = partial(observed, self._store, place, names.champion)
        until = self._settled(now)
        others = control(place, names.champion, names.previous)
        before = seen((others,), as_long_before, min(since, until))[others]
        after = seen((names.champion,), since, until)[names.champion]
        why = regression(before, after, others)
        if why is None:
            return
        try:
            registry.rollback(place, by=BY, why=why, only=names.champion)
        except Refused as error:  # a person, or another server, was faster
            logger.info("%s in %s isn't rolled back: %s", names.champion, place.name, error)
        else:
            logger.warning("rolled back %s in %s: %s", names.champion, place.name, why)

    def _settled(self, now: float) -> float:
        return now - self._limits.settled_s


def watched_since(events: Sequence[Event], champion: str | None) -> float | None:
    """When the champion took the place of another; None where it came back by a rollback, or nothing is known of it."""
    before: str | None = None
    since: float | None = None
    for event in events:
        if event.champion != before:
            since = datetime.fromisoformat(event.time).timestamp() if event.what in _FORWARD else None
            before = event.champion
    return since if before == champion else None
