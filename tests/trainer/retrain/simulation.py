"""A repository that is pushed to, and a policy that is asked again when it said it would have another answer."""

from __future__ import annotations

from homespun_trainer.retrain.policy import Action, Rules, Scope, decide


class Company:
    def __init__(self, rules: Rules) -> None:
        self._rules, self._now = rules, 1_800_000_000.0
        self._head, self._trained, self._trained_at = 0, 0, self._now
        self._pushed: tuple[float, float] | None = None
        self.untrained = 0
        """Bytes that no run has seen."""
        self.runs: list[float] = []
        self._step()

    def push(self, size: int) -> None:
        self._head += 1
        self.untrained += size
        self._pushed = (self._pushed[0] if self._pushed else self._now, self._now)

    def pass_time(self, seconds: float) -> None:
        end = self._now + seconds
        while (until := self._step()) is not None and until < end:
            self._now = until
        self._now = end

    def _step(self) -> float | None:
        """Train if it is time; when to ask again."""
        decision = decide(self._scope(), self._rules, self._now)
        if decision.action is Action.WAIT:
            return decision.until
        self.runs.append(self._now)
        self._trained, self._trained_at, self.untrained, self._pushed = self._head, self._now, 0, None
        return None

    def _scope(self) -> Scope:
        return Scope(
            head=str(self._head),
            total=1_000_000,
            trained=str(self._trained) if self.runs else None,
            trained_at=self._trained_at,
            changed=self.untrained,
            pushed=self._pushed,
        )
