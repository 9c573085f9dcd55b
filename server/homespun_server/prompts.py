"""How the prompt of a completion is made, which may differ from user to user while versions are tried."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from homespun_core.config import Settings
from homespun_core.prompt import PromptBuilder
from homespun_core.prompt_versions import PLAIN
from homespun_server.rollout.prompts import Trial


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompting:
    settings: Settings
    """Those that shape it are the version's."""
    builder: PromptBuilder
    version: str | None = None
    """Its name; None where no versions are tried, or it isn't known by whom."""
    mark: str | None = None
    """What is remembered of a completion, so that outcomes can be told apart."""


class Prompts:
    def __init__(self, settings: Settings, trial: Trial, build: Callable[[Settings], PromptBuilder]) -> None:
        self._trial = trial
        self._untold = Prompting(settings=settings, builder=build(settings))
        changed = {PLAIN: settings} | {v.name: replace(settings, **v.changes) for v in trial.tried}
        self._by_name = {
            name: Prompting(settings=changed[name], builder=build(changed[name]), version=name, mark=trial.mark(name))
            for name in trial.names
        }

    def of(self, user: str | None) -> Prompting:
        name = self._trial.drawn(user)
        return self._untold if name is None else self._by_name[name]
