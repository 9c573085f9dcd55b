"""Which versions of an adapter have a name, and what each decision makes of that. Pure; `registry` keeps it on disk."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Any

from homespun_core.errors import StorageError

FORMAT = 1
AUTOMATIC, MANUAL = "automatic", "manual"


class Refused(StorageError):
    """A change that the names as they stand don't allow."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Aliases:
    """Champion, candidate and the others. Each change gives new ones or raises Refused."""

    champion: str | None = None
    """Live; None is the base model alone."""
    past: tuple[str, ...] = ()
    """Champions before it, newest first. Those that were rolled back are not among them."""
    candidate: str | None = None
    """The gate let it pass, and a person has to decide."""
    pinned: bool = False
    """Nothing replaces the champion."""
    rejected: frozenset[str] = frozenset()
    """A person or the rollout decided against them: the gate's yes no longer counts."""

    @property
    def previous(self) -> str | None:
        return self.past[0] if self.past else None

    @property
    def protected(self) -> frozenset[str]:
        """What pruning leaves alone; a pinned one is the champion."""
        return frozenset(v for v in (self.champion, self.previous, self.candidate) if v)

    def names_of(self, version: str) -> tuple[str, ...]:
        named = {"champion": self.champion, "candidate": self.candidate, "previous": self.previous}
        found = [name for name, bearer in named.items() if bearer == version]
        found += ["pinned"] if self.pinned and version == self.champion else []
        return (*found, "rejected") if version in self.rejected else tuple(found)

    def promoted(self, version: str) -> Aliases:
        if version == self.champion:
            return self
        self._refuse_if_pinned()
        return replace(
            self._without(version),
            champion=version,
            past=tuple(v for v in (self.champion, *self.past) if v and v != version),
        )

    def offered(self, version: str, approval: str) -> Aliases:
        """What the gate's yes makes of a version: the champion, or a candidate where a person has the last word. It
        counts once: what was rejected or replaced since stays that."""
        if version in (self.champion, *self.past) or version in self.rejected:
            return self
        if approval == AUTOMATIC and not self.pinned:
            return self.promoted(version)
        return replace(self, candidate=version)

    def approved(self) -> Aliases:
        return self.promoted(self._waiting())

    def turned_down(self) -> Aliases:
        return replace(self, candidate=None, rejected=self.rejected | {self._waiting()})

    def rolled_back(self) -> Aliases:
        """The champion before, or the base model alone where there was none."""
        champion = self._live()
        self._refuse_if_pinned()
        return replace(
            self, champion=self.previous, past=self.past[1:], rejected=(self.rejected | {champion}) - {self.previous}
        )

    def held(self) -> Aliases:
        self._live()
        return replace(self, pinned=True)

    def released(self) -> Aliases:
        if not self.pinned:
            raise Refused("nothing is pinned")
        return replace(self, pinned=False)

    def retired(self, version: str) -> Aliases:
        """Without a version that will be deleted. A pin doesn't keep it: what must be forgotten must go."""
        rest = self._without(version)
        if version != self.champion:
            return rest
        return replace(rest, champion=rest.previous, past=rest.past[1:], pinned=False)

    def _without(self, version: str) -> Aliases:
        return replace(
            self,
            past=tuple(v for v in self.past if v != version),
            candidate=None if self.candidate == version else self.candidate,
            rejected=self.rejected - {version},
        )

    def _live(self) -> str:
        if self.champion is None:
            raise Refused("no adapter is live, completions come from the base model")
        return self.champion

    def _waiting(self) -> str:
        if self.candidate is None:
            raise Refused("no candidate waits for approval")
        return self.candidate

    def _refuse_if_pinned(self) -> None:
        if self.pinned:
            raise Refused(f"{self.champion} is pinned; `homespun adapters unpin` first")


def as_json(aliases: Aliases, waiting: str | None = None) -> dict[str, Any]:
    """What is written. `waiting` keeps a candidate on record while it becomes the champion: see `from_json`."""
    return {
        "format": FORMAT,
        "lineage": [v for v in (aliases.champion, *aliases.past) if v],
        "candidate": aliases.candidate or waiting,
        "pinned": aliases.champion if aliases.pinned else None,
        "rejected": sorted(aliases.rejected),
    }


def from_json(record: Any, pointer: str | None, existing: Collection[str]) -> Aliases:
    """The names as they hold, given the version that `CURRENT` names and those that exist.

    `CURRENT` decides: the record is written before it, so a record whose champion isn't live yet is one of a change
    that was cut off, or of a change by a Homespun that knew no record. Either way what came before the live version
    in the lineage never happened. Raises ValueError, TypeError or KeyError when it is no such record.
    """
    if record["format"] != FORMAT:
        raise ValueError(f"format {record['format']}, this Homespun reads {FORMAT}")
    lineage = [str(v) for v in record["lineage"]]
    past = lineage[lineage.index(pointer) + 1 :] if pointer in lineage else lineage if pointer else []
    champion = pointer if pointer in existing else None
    candidate = record["candidate"]
    return Aliases(
        champion=champion,
        past=tuple(v for v in dict.fromkeys(past) if v in existing and v != champion),
        candidate=candidate if candidate in existing and candidate != champion else None,
        pinned=champion is not None and record["pinned"] == champion,
        rejected=frozenset(record["rejected"]).intersection(existing) - {champion, candidate},
    )
