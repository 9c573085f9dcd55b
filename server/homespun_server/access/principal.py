"""On whose behalf a request is answered, and what they may do and read. Unknown means no."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

Role = Literal["developer", "repo-admin", "auditor", "admin"]
Scope = Literal["complete", "index:read", "admin"]
ALL_SCOPES: frozenset[Scope] = frozenset(("complete", "index:read", "admin"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    user: str
    """Id; empty for whoever uses this machine alone."""
    name: str
    role: Role
    scopes: frozenset[Scope]
    """Of the token or session that was shown."""
    readable: frozenset[str] | None
    """Ids of the repositories whose code may be seen, and of the shared adapters (`@name`); None is all there are."""
    credential: str = ""
    """Id of that token or session; empty where none has one."""

    def may_read(self, repository: str) -> bool:
        return self.readable is None or repository in self.readable


LOCAL = Principal(user="", name="local", role="admin", scopes=ALL_SCOPES, readable=None)
"""Whoever can reach a server on loopback while nobody has an account: this machine's user."""

BREAK_GLASS = replace(LOCAL, name="api-token")
"""Whoever has the one token of the settings."""

NOBODY = Principal(user="", name="nobody", role="developer", scopes=frozenset(), readable=frozenset())
"""Whoever shows nothing, at the doors that are open to all."""
