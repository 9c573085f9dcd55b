"""The parts of the console, and whose they are. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from homespun_server.access.decisions import Action, may
from homespun_server.access.principal import Principal

PATH = "/console"


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    name: str
    title: str
    action: Action | None = None
    """What one must be allowed to do; None for whoever is signed in."""

    @property
    def path(self) -> str:
        return PATH if self.name == "overview" else f"{PATH}/{self.name}"


SECTIONS = (
    Section(name="overview", title="Overview"),
    Section(name="repositories", title="Repositories", action="manage-repositories"),
    Section(name="adapters", title="Adapters", action="manage-repositories"),
    Section(name="jobs", title="Jobs", action="manage-repositories"),
    Section(name="playground", title="Playground", action="complete"),
    Section(name="usage", title="Usage"),
    Section(name="tokens", title="Tokens"),
    Section(name="people", title="People", action="manage-people"),
    Section(name="audit", title="Audit log", action="read-audit"),
    Section(name="settings", title="Settings", action="manage-people"),
)


def may_see(who: Principal, section: str) -> bool:
    return any(s.name == section for s in sections_of(who))


def takes(section: str) -> str:
    """What one must be allowed to do, as the audit log names it."""
    return next((s.action for s in SECTIONS if s.name == section and s.action), f"see-{section}")


def sections_of(who: Principal) -> tuple[Section, ...]:
    found = (s for s in SECTIONS if s.action is None or may(who, s.action))
    return tuple(s for s in found if s.name != "tokens" or _may_make_tokens(who))


def _may_make_tokens(who: Principal) -> bool:
    """Tokens belong to accounts: who has none has none. And an editor's token that got lost mustn't make others, nor a
    browser that was signed in with it; /v1/homespun/me/tokens asks the same."""
    return bool(who.user) and "admin" in who.scopes


def whose_usage(who: Principal) -> tuple[str | None, frozenset[str] | None]:
    """The user and the repositories whose numbers somebody sees; None is all of them."""
    if may(who, "read-usage"):
        return None, None
    return (None, who.readable) if may(who, "manage-repositories") else (who.user, None)
