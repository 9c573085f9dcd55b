"""One repository that is trained again and again: what is known of it, and what became of the runs.

Everything it decides on can be found again after kill -9: adapters and their commits in the registry, a run that was
begun in the ledger, written before it starts. A ledger that is behind costs a run that finds nothing to do.
"""

from __future__ import annotations

import logging
from calendar import timegm
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from time import strptime
from typing import Protocol

from homespun_core import acceptance, personal, registry, storage
from homespun_core.acceptance import Change, Weeks
from homespun_core.config import SETTINGS, TRAIN, Settings
from homespun_core.errors import BusyError, StorageError
from homespun_core.paths import DataDir
from homespun_core.personal import Wish, WithdrawnError
from homespun_core.registry import Adapter
from homespun_core.retraining import (
    FreshScore,
    Ledger,
    Reception,
    Run,
    alarm,
    append_reception,
    append_score,
    fall,
    read_ledger,
    read_receptions,
    read_scores,
    write_ledger,
)
from homespun_trainer.heads import trained_head
from homespun_trainer.retrain.drift import MIN_PLACES, FreshPlace, fresh_score
from homespun_trainer.retrain.policy import Decision, Rules, Scope, decide, is_measuring_due, is_possible

logger = logging.getLogger(__name__)

_INTERRUPTED = 130
_NOT_OF_THE_RECIPE = (
    "data_dir",
    "base_model",
    "device",
    "dtype",
    "num_threads",
    "processes",
    "approval",
    "canary_percent",
    "shadow_percent",
    "progress",
    "log_level",
    "log_format",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sight:
    """A repository as it stands."""

    repo: str
    """Directory name in the data directory."""
    name: str
    head: str
    is_forgotten: bool = False
    """Whether all of it is to be."""
    shared_by: tuple[str, ...] = ()
    """Ids of the repositories that share its adapter."""


class View(Protocol):
    """What we need of git, the index and the engine; the command line passes the indexer's and the server's own."""

    def look(self) -> Sight:
        """Raises RepositoryError."""
        ...

    def changed(self, since: str | None) -> tuple[int, int]:
        """Bytes of source added from that commit to the head last seen, and all of it there."""
        ...

    def measure(self, adapter: Adapter, shared_by: int = 1) -> Sequence[FreshPlace]:
        """How it does at some places of fresh code; fewer where so many repositories are looked at for it."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class _Trained:
    commit: str
    at: float
    lost_to: str | None = None
    """What its adapter was turned down against, as servers call it."""


class Subject:
    """For one thread. `source` is the word that its training is asked for by; with a `wish`, of somebody's own."""

    def __init__(
        self,
        source: str,
        view: View,
        data: DataDir,
        rules: Rules,
        recipe: str,
        base_digest: str,
        wish: Wish | None = None,
    ) -> None:
        self.source = source
        self._view, self._data, self._rules = view, data, rules
        self._recipe, self._base_digest, self._wish = recipe, base_digest, wish
        self._sight: Sight | None = None
        self._pushed: tuple[float, float] | None = None
        self._adapters_read: dict[str, Adapter | None] = {}
        """By version: each is read whole once, to check it."""
        self._measured: tuple[str, str] | None = None
        """Adapter and head that were looked at last; too little fresh code is so until the next push."""
        self._counted: tuple[tuple[str, str | None], tuple[int, int]] | None = None

    @property
    def name(self) -> str:
        return self._sight.name if self._sight else self.source

    def decision(self, now: float) -> Decision | None:
        """What to do now; None while somebody else is training on it. Raises HomespunError."""
        sight = self._view.look()
        if self._sight is not None and sight.head != self._sight.head:
            self._pushed = (self._pushed[0] if self._pushed else now, now)
        self._sight = sight
        if self._is_busy():
            return None
        made = decide(self._scope(sight, now), self._rules, now)
        self._remember(made)
        return made

    def begin(self, decision: Decision, now: float) -> None:
        """To be called before a run starts."""
        ledger = self._ledger()
        is_same = ledger.running is not None and ledger.running.commit == decision.commit
        run = ledger.running if is_same else Run(commit=decision.commit, started=now, recipe=self._recipe)
        self._write(replace(ledger, running=run))
        self._pushed = None

    def end(self, status: int | None, now: float) -> None:
        """A run has ended with this exit status; None: it was paused. One that was interrupted or killed goes on from
        its checkpoint after a while; one that failed otherwise starts anew with the newest commit."""
        ledger = self._ledger()
        if status == 0:
            self._write(Ledger(last=ledger.running, decision=ledger.decision))
        elif status is not None:
            kept = ledger.running if status == _INTERRUPTED or status < 0 else None
            self._write(replace(ledger, running=kept, failures=ledger.failures + 1, failed_at=now))

    def measure(self, now: float) -> FreshScore | None:
        """How the live adapter does on fresh code, if it is time to see; kept in the history. Raises HomespunError."""
        live = self._live()
        if live is None or self._sight is None:
            return None
        looked_at = (live.version, self._sight.head)
        if looked_at == self._measured or not is_measuring_due(self.scores(), *looked_at, now):
            return None
        self._measured = looked_at
        places = self._view.measure(live)
        if len(places) < MIN_PLACES:
            return None
        percent = self._rules.drift_percent
        score = fresh_score(places, adapter=live, head=self._sight.head, percent=percent, now=now)
        score = _beside(score, self._change(live, now))
        append_score(self._folder, score)
        return score

    def receive(self, now: float) -> Reception | None:
        """Whether people accept less than before, when that has changed; kept in the history. It takes no model and no
        fresh code."""
        live = self._live() if self._sight is not None else None
        change = self._change(live, now) if live is not None else None
        if live is None or change is None:
            return None
        fallen = fall(self.receptions(), live.version, now)
        before = fallen.before if fallen else change.before
        if not (acceptance.has_recovered(change.lately, before) if fallen else change.is_fall):
            return None
        found = Reception(at=now, adapter=live.version, lately=change.lately, before=before, is_fall=fallen is None)
        append_reception(self._folder, found)
        return found

    def _change(self, live: Adapter, now: float) -> Change | None:
        """None while the weeks that count are another adapter's too."""
        since = registry.champion_since(registry.history(self._adapters), live.version)
        is_its_own = now - max(since or 0.0, _created(live.path)) >= acceptance.LATELY_S
        return acceptance.change(self.acceptance(), now) if is_its_own else None

    def acceptance(self) -> Weeks:
        """Of what was shown in it, as far as a server counts that; of a shared adapter in all repositories that have it
        and none of their own."""
        assert self._sight is not None, "look first"
        counted, shared_by = acceptance.read(self._data), self._sight.shared_by
        served = [id for id in shared_by if storage.current(self._data.adapters(id)) is None]
        return acceptance.added(counted.get(id, {}) for id in (served if shared_by else [self._sight.repo]))

    def scores(self) -> list[FreshScore]:
        return read_scores(self._folder)

    def receptions(self) -> list[Reception]:
        return read_receptions(self._folder)

    def _scope(self, sight: Sight, now: float) -> Scope:
        ledger, newest = self._ledger(), self._trained_newest()
        begun = [_Trained(commit=ledger.last.commit, at=ledger.last.started)] if ledger.last else []
        known = [*([newest] if newest else []), *begun]
        trained = max(known, key=lambda t: t.at if is_possible(t.at, now) else 0.0, default=None)
        added, total = self._changed(sight.head, trained.commit if trained else None)
        live = self._live()
        change = self._change(live, now) if live else None
        return Scope(
            head=sight.head,
            total=total,
            trained=trained.commit if trained else None,
            trained_at=trained.at if trained else None,
            has_adapter=newest is not None,
            changed=added,
            is_forgotten=sight.is_forgotten,
            is_control_gone=trained is not None and trained is newest and self._is_gone(trained.lost_to),
            is_recipe_new=ledger.last is not None and ledger.last.recipe != self._recipe,
            tried=self._tried(),
            running=ledger.running if ledger.running and ledger.running.recipe == self._recipe else None,
            pushed=self._pushed,
            failures=ledger.failures,
            failed_at=ledger.failed_at,
            has_drifted=alarm(self.scores(), live.version if live else None) is not None,
            is_accepted_less=change is not None and change.is_fall,
        )

    def _changed(self, head: str, since: str | None) -> tuple[int, int]:
        key = (head, since)
        if self._counted is None or self._counted[0] != key:
            self._counted = (key, self._view.changed(since))
        return self._counted[1]

    def _trained_newest(self) -> _Trained | None:
        """What the newest adapter of this base model was trained on. One that was tuned by preference learned no new
        code."""
        versions = sorted(p.name for p in self._adapters.glob("*") if (p / storage.MANIFEST).is_file())
        adapters = map(self._adapter, reversed(versions))
        adapter = next((a for a in adapters if a is None or "preferences" not in a.report), None)
        head = trained_head(adapter.report) if adapter else None
        if adapter is None or not head:
            return None
        lost_to = None if adapter.report.get("promote") else adapter.report.get("control_adapter")
        return _Trained(commit=head, at=_created(adapter.path), lost_to=lost_to)

    def _is_gone(self, adapter: str | None) -> bool:
        """Nobody can take the base model away."""
        place, _, version = (adapter or "").rpartition("/")
        live = storage.current(self._data.adapters(place)) if place else None
        return bool(place) and (live is None or live.name != version)

    def _live(self) -> Adapter | None:
        path = storage.current(self._adapters)
        return self._adapter(path.name) if path else None

    def _tried(self) -> tuple[str, float] | None:
        """Somebody's own is tried by nobody, and where the champion is pinned no trial puts another in its place."""
        if self._wish is not None:
            return None
        names = registry.aliases(self._adapters)
        if names.candidate is None or names.pinned or self._adapter(names.candidate) is None:
            return None
        at = registry.offered_at(registry.history(self._adapters), names.candidate)
        return None if at is None else (names.candidate, at)

    def _adapter(self, version: str) -> Adapter | None:
        """None for one that is damaged, or of another base model."""
        if version not in self._adapters_read:
            self._adapters_read[version] = self._readable(self._adapters / version)
        found = self._adapters_read[version]
        return found if found is not None and found.base_digest == self._base_digest else None

    def _readable(self, path: Path) -> Adapter | None:
        try:
            return registry.load_adapter(path)
        except StorageError as error:
            logger.warning("as if it had not been trained: %s", error)
            return None

    def _remember(self, decision: Decision) -> None:
        ledger, said = self._ledger(), f"{decision.action.value}: {decision.reason}"
        if ledger.decision != said:
            self._write(replace(ledger, decision=said))

    def _is_busy(self) -> bool:
        assert self._sight is not None
        try:
            with storage.locked(self._data.locks / f"train-{self._sight.repo}.lock", "training"):
                return False
        except StorageError:
            return True

    @property
    def _folder(self) -> Path:
        assert self._sight is not None, "look first"
        return self._data.retraining(self._sight.repo)

    @property
    def _adapters(self) -> Path:
        assert self._sight is not None, "look first"
        return self._data.adapters(self._sight.repo)

    def _ledger(self) -> Ledger:
        return read_ledger(self._folder)

    def _write(self, ledger: Ledger) -> None:
        """Nothing of what its owner has taken back, which is deleted by then."""
        try:
            with personal.standing(self._data, self._wish):
                write_ledger(self._folder, ledger)
        except (WithdrawnError, BusyError) as error:
            logger.info("not noted: %s", error)


def _beside(score: FreshScore, change: Change | None) -> FreshScore:
    if change is None:
        return score
    return replace(score, accepted=change.lately, accepted_before=change.before)


def recipe_digest(settings: Settings, base_digest: str) -> str:
    """Equal as long as training would be done in the same way."""
    names = [n for n, item in SETTINGS.items() if TRAIN in item.metadata["verbs"] and n not in _NOT_OF_THE_RECIPE]
    return storage.fingerprint(base_digest, {name: getattr(settings, name) for name in names})


def _created(path: Path) -> float:
    manifest = storage.read_manifest(path, registry.ADAPTER_KIND, registry.ADAPTER_FORMAT)
    return float(timegm(strptime(manifest.created, "%Y-%m-%dT%H:%M:%SZ")))
