"""Prompts that are tried out: who gets which, what of it is remembered, and what the outcomes prove. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from homespun_core import storage
from homespun_core.prompt_versions import PLAIN, PromptVersion
from homespun_server.feedback.tallies import Arm
from homespun_server.rollout.arms import is_in_share
from homespun_server.rollout.decision import ALPHA, Decision, decide


class Trial:
    """Some versions beside the plain prompt; of none, nobody takes part."""

    def __init__(self, tried: Sequence[PromptVersion] = ()) -> None:
        self.tried = tuple(tried)
        tables = [[version.name, dict(version.changes), version.percent] for version in self.tried]
        self._id = storage.fingerprint(tables)[:8]

    @property
    def names(self) -> tuple[str, ...]:
        """Of its arms."""
        return (PLAIN, *(version.name for version in self.tried)) if self.tried else ()

    def drawn(self, user: str | None) -> str | None:
        """The arm of a user, always the same one: of several versions whose shares they are in, the first. None for
        whoever doesn't say who they are."""
        if user is None or not self.tried:
            return None
        drawn = (v.name for v in self.tried if is_in_share(user, f"prompt/{v.name}", v.percent))
        return next(drawn, PLAIN)

    def mark(self, arm: str) -> str:
        """What is remembered of a completion. Each edit of the tables begins anew: who changed arms, or had the same
        name for another prompt, would prove the wrong thing."""
        return f"{self._id}/{arm}"

    def decisions(self, arms: Mapping[str, Arm]) -> Mapping[str, Decision]:
        """By name; on each version, against the plain prompt; all of them together err as seldom as one would."""
        alpha = ALPHA / max(1, len(self.tried))
        return {version.name: decide(arms[PLAIN], arms[version.name], alpha) for version in self.tried}
