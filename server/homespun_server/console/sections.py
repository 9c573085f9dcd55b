"""The parts of the console, and whose they are. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from homespun_server.access.principal import Principal, Role

PATH = "/console"


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    name: str
    title: str
    roles: frozenset[Role]

    @property
    def path(self) -> str:
        return PATH if self.name == "overview" else f"{PATH}/{self.name}"


_EVERYBODY: frozenset[Role] = frozenset(("developer", "repo-admin", "auditor", "admin"))
_CODE = _EVERYBODY - {"auditor"}
"""Auditors look at numbers, not at code."""
_OWNERS: frozenset[Role] = frozenset(("repo-admin", "admin"))
_ADMIN: frozenset[Role] = frozenset(("admin",))

SECTIONS = (
    Section(name="overview", title="Overview", roles=_EVERYBODY),
    Section(name="repositories", title="Repositories", roles=_OWNERS),
    Section(name="adapters", title="Adapters", roles=_OWNERS),
    Section(name="playground", title="Playground", roles=_CODE),
    Section(name="usage", title="Usage", roles=_EVERYBODY),
    Section(name="settings", title="Settings", roles=_ADMIN),
)


def may_see(who: Principal, section: str) -> bool:
    return any(s.name == section and who.role in s.roles for s in SECTIONS)


def sections_of(who: Principal) -> tuple[Section, ...]:
    return tuple(s for s in SECTIONS if who.role in s.roles)


def whose_usage(who: Principal) -> tuple[str | None, frozenset[str] | None]:
    """The user and the repositories whose numbers somebody sees; None is all of them."""
    if who.role in ("admin", "auditor"):
        return None, None
    return (None, who.readable) if who.role == "repo-admin" else (who.user, None)
