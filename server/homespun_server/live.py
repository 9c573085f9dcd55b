"""What is served, and whose adapter completes where. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from homespun_core import personal
from homespun_core.paths import identity_as_said
from homespun_core.scopes import UNKNOWN, is_scope, lender, why_kept_back
from homespun_indexer.reader import IndexReader
from homespun_server.rollout.arms import is_in_share

_MAX_WANTED_CHARS = 1_000
"""Nobody's repository has a longer name, and taking one apart takes time on the loop that serves everybody."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveRepository:
    """One repository as it is served now; or a shared adapter, which is lent to repositories and is none itself."""

    id: str
    """Its directory name in the data directory."""
    identity: str | None = None
    name: str | None = None
    remotes: frozenset[str] = frozenset()
    """Identities of its remotes' URLs."""
    reader: IndexReader | None = None
    index_path: Path | None = None
    adapter: str | None = None
    """Its name in the engine."""
    adapter_path: Path | None = None
    adapter_saw: frozenset[str] = frozenset()
    """Ids of the repositories it was trained on."""
    adapter_on: str | None = None
    """What somebody's own was trained on top of, by its name in the engine."""
    candidate: str | None = None
    """Name in the engine of an adapter that only a share of the users gets."""
    candidate_path: Path | None = None
    candidate_saw: frozenset[str] = frozenset()
    canary_percent: float = 0.0

    def adapter_for(self, user: str | None) -> str | None:
        """The candidate for users in its share; whoever doesn't say who they are gets the live one."""
        if self.candidate is None or user is None or not is_in_share(user, self.candidate, self.canary_percent):
            return self.adapter
        return self.candidate

    @property
    def adapters(self) -> frozenset[str]:
        return frozenset(name for name in (self.adapter, self.candidate) if name)

    def state(self) -> dict[str, str | None]:
        commit = self.reader.manifest.sources.get("commit") if self.reader else None
        return {
            "repository": self.identity or self.id,
            "index_generation": self.index_path.name if self.index_path else None,
            "commit": commit,
            "adapter": self.adapter_path.name if self.adapter_path else None,
            "adapter_of": self.adapter_path.parent.name if self.adapter_path else None,
            "candidate": self.candidate_path.name if self.candidate_path else None,
        }


def pick(repositories: Iterable[LiveRepository], wanted: str | None) -> LiveRepository | None:
    """The repository a client means by a name, a path or a URL; the only one there is for a client that names none.

    Unknown means none: code of one project must not turn up in another.
    """
    known = list(repositories)
    if not wanted:
        return known[0] if len(known) == 1 else None
    if len(wanted) > _MAX_WANTED_CHARS:
        return None
    identity = identity_as_said(wanted)
    found = [r for r in known if identity == r.identity or identity in r.remotes]
    found = found or [r for r in known if wanted in (r.id, r.name, r.identity)]
    return found[0] if len(found) == 1 else None


def lent(found: Iterable[LiveRepository], *, is_for_all: bool = False) -> tuple[tuple[LiveRepository, ...], list[str]]:
    """The repositories, those without an adapter of their own with the shared one that covers them (`scopes.lender`);
    and a line for each adapter that nobody gets, since whoever reaches this server may not be one who may read all it
    was trained on.

    `is_for_all`: for those whom nothing is kept from, who get what stands on an adapter that doesn't say what it saw.
    """
    found = list(found)
    readable = {r.id for r in found if r.reader is not None} | ({UNKNOWN} if is_for_all else set())
    kept_back = [line for r in found for line in _kept_back(r, readable)]
    allowed = [_without_kept_back(r, readable) for r in found]
    shared = {r.id: r for r in allowed if is_scope(r.id)}
    return tuple(_borrowing(r, shared) for r in allowed if _is_repository(r.id)), kept_back


def _is_repository(id: str) -> bool:
    return not is_scope(id) and personal.owner_of(id) is None


def _borrowing(r: LiveRepository, shared: Mapping[str, LiveRepository]) -> LiveRepository:
    if r.adapter is not None:
        return r
    champions = {id: other.adapter_saw for id, other in shared.items() if other.adapter}
    candidates = {id: other.candidate_saw for id, other in shared.items() if other.candidate}
    if found := lender(r.id, champions):
        r = replace(r, adapter=shared[found].adapter, adapter_path=shared[found].adapter_path)
    if r.candidate is None and (found := lender(r.id, candidates)):
        of = shared[found]
        r = replace(r, candidate=of.candidate, candidate_path=of.candidate_path, canary_percent=of.canary_percent)
    return r


def _kept_back(r: LiveRepository, readable: Collection[str]) -> Iterator[str]:
    for path, saw in ((r.adapter_path, r.adapter_saw), (r.candidate_path, r.candidate_saw)):
        if path is not None and (why := why_kept_back(r.id, saw, readable)):
            yield f"adapter {path.name} of {r.id} is not served: it {why}"


def _without_kept_back(r: LiveRepository, readable: Collection[str]) -> LiveRepository:
    if r.adapter is not None and why_kept_back(r.id, r.adapter_saw, readable):
        r = replace(r, adapter=None, adapter_path=None)
    if r.candidate is not None and why_kept_back(r.id, r.candidate_saw, readable):
        r = replace(r, candidate=None, candidate_path=None)
    return r
