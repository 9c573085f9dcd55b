"""Whom retraining is about: repositories, adapters that they share, and people's own. The latter come and go."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from homespun_core import personal, storage
from homespun_core.paths import DataDir
from homespun_core.personal import Wish
from homespun_core.registry import Adapter
from homespun_core.scopes import ScopeConfig
from homespun_trainer import heads, own
from homespun_trainer.retrain.drift import FreshPlace
from homespun_trainer.retrain.policy import Rules
from homespun_trainer.retrain.subject import Sight, Subject, View

Changed = Callable[[str | None, Sequence[str]], int]
"""(since, hashes of addresses) -> bytes of source that somebody added since that commit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Watched:
    """A repository."""

    word: str
    """As its training is asked for."""
    id: str
    view: View
    own_changes: Changed


class Shared:
    """A View of several repositories whose adapter is one, those that are to be forgotten left out."""

    def __init__(self, scope: ScopeConfig, members: Sequence[View]) -> None:
        self._scope, self._members = scope, members
        self._sights: dict[str, View] = {}

    def look(self) -> Sight:
        found = [(member.look(), member) for member in self._members]
        left = [(sight, member) for sight, member in found if not sight.is_forgotten]
        self._sights = {sight.repo: member for sight, member in left}
        head = heads.joined({sight.repo: sight.head for sight, _ in left or found})
        return Sight(
            repo=self._scope.id,
            name=self._scope.name,
            head=head,
            is_forgotten=not left,
            shared_by=tuple(self._sights),
        )

    def changed(self, since: str | None) -> tuple[int, int]:
        before = heads.parted(since) if since else {}
        each = [member.changed(before.get(id)) for id, member in self._sights.items()]
        return sum(added for added, _ in each), sum(total for _, total in each)

    def measure(self, adapter: Adapter, shared_by: int = 1) -> Sequence[FreshPlace]:
        members = self._sights.values()
        return [place for member in members for place in member.measure(adapter, len(members) * shared_by)]


class Owned:
    """A View of what somebody wrote in a repository; amounts are of their lines alone."""

    def __init__(self, wish: Wish, repository: Watched) -> None:
        self._wish, self._repository = wish, repository

    def look(self) -> Sight:
        sight = self._repository.view.look()
        id = personal.personal_id(self._wish.user, sight.repo)
        return replace(sight, repo=id, name=f"{sight.name} for {self._wish.user}")

    def changed(self, since: str | None) -> tuple[int, int]:
        """Without a total: what share of everybody's code somebody wrote says nothing."""
        return self._repository.own_changes(since, self._wish.authors), 0

    def measure(self, adapter: Adapter, shared_by: int = 1) -> Sequence[FreshPlace]:
        """None: what one person writes in a day says little."""
        return ()


class Roll:
    """Iterated anew for each look; who is on it twice is the same Subject."""

    def __init__(
        self,
        repositories: Sequence[Watched],
        scopes: Sequence[ScopeConfig],
        members: Callable[[ScopeConfig], Sequence[View]],
        *,
        data: DataDir,
        rules: Rules,
        recipe: str,
        base_digest: str,
    ) -> None:
        self._repositories, self._data, self._rules = repositories, data, rules
        self._recipe, self._base_digest = recipe, base_digest
        self._lasting = [self._subject(r.word, r.view, recipe) for r in repositories]
        self._lasting += [self._subject(s.name, Shared(s, members(s)), recipe) for s in scopes]
        self._owned: dict[tuple[Wish, str, str], Subject] = {}
        self._live: dict[str, tuple[tuple[Path | None, ...], Mapping[str, Adapter]]] = {}
        """By repository, where the pointers led, and what may be served there."""

    def __iter__(self) -> Iterator[Subject]:
        yield from self._lasting
        wanted = [(wish, repository) for wish in personal.wishes(self._data) for repository in self._repositories]
        for wish, repository in wanted:
            if wish.may_have is None or repository.id in wish.may_have:  # else nobody would be served with it
                yield self._own(wish, repository)

    def _own(self, wish: Wish, repository: Watched) -> Subject:
        """Another adapter below makes it due, as other settings do: it is served on top of that one alone."""
        below = own.lent_to(wish, repository.id, self._live_for(repository.id))
        recipe = f"{self._recipe} on {own.served_as(below.path)}" if below else self._recipe
        word = personal.personal_id(wish.user, repository.id)
        if (wish, word, recipe) not in self._owned:
            self._owned[wish, word, recipe] = self._subject(word, Owned(wish, repository), recipe, wish)
        return self._owned[wish, word, recipe]

    def _live_for(self, repository: str) -> Mapping[str, Adapter]:
        """Looked for again only when some pointer has changed: every byte of an adapter is checked."""
        places = [self._data.adapters(repository), *sorted(self._data.all_adapters.glob("@*"))]
        live = tuple(storage.current(place) for place in places)
        known = self._live.get(repository)
        if known is None or known[0] != live:
            known = self._live[repository] = live, own.live_for(self._data, repository, self._base_digest)
        return known[1]

    def _subject(self, word: str, view: View, recipe: str, wish: Wish | None = None) -> Subject:
        return Subject(word, view, self._data, self._rules, recipe, self._base_digest, wish)
