"""Looks what has happened since the last time, and puts a job into the queue for each who wants to hear of it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from itertools import islice

from sqlalchemy import Engine, insert, select, update

from homespun_core import registry
from homespun_core.errors import StorageError
from homespun_core.notify import NotifyConfig
from homespun_core.paths import DataDir
from homespun_core.retraining import read_receptions, read_scores
from homespun_server.access import audit
from homespun_server.database.opening import writing
from homespun_server.jobs.notices import happened
from homespun_server.jobs.notices.happened import Notice
from homespun_server.jobs.states import WORKER_KINDS, Kind, State
from homespun_server.jobs.store import JobStore
from homespun_server.jobs.tables import positions

logger = logging.getLogger(__name__)

_OVERLAP_MS = 60_000
_AT_ONCE = 500


class Follower:
    """What was there before anybody wanted to hear of it isn't news.

    A notice is in the queue before its place is written down, so a death in between may tell of it twice, under the
    same id, and never not at all.
    """

    def __init__(
        self,
        data: DataDir,
        database: Engine,
        store: JobStore,
        endpoints: Sequence[NotifyConfig],
        problems: Callable[[], Sequence[str]] = tuple,
    ) -> None:
        """`problems` has a line for each snapshot that can't be served."""
        self._data, self._database, self._store, self._endpoints = data, database, store, endpoints
        self._problems = problems

    def look(self) -> None:
        self._ended("jobs", ("failed", "poisoned"), WORKER_KINDS)
        self._ended("jobs/ended", ("done", "cancelled"), ("train", "evaluate"))
        self._audit()
        self._tell("problems", [happened.of_problem(line) for line in self._problems()], 0, 0)
        for repository in self._folders("adapters"):
            self._history(repository)
            self._reports(repository)
        for repository in self._folders("retraining"):
            self._drift(repository)
            self._receptions(repository)

    def _folders(self, name: str) -> list[str]:
        root = self._data.root / name
        return sorted(path.name for path in root.iterdir() if path.is_dir()) if root.is_dir() else []

    def _history(self, repository: str) -> None:
        events = registry.history(self._data.adapters(repository))
        seen = self._position(f"history/{repository}", len(events))
        self._tell(f"history/{repository}", happened.of_history(repository, events, seen), seen, len(events))

    def _reports(self, repository: str) -> None:
        place = self._data.adapters(repository)
        numbers = {version: _number(version) for version in registry.versions(place)}
        newest = max(numbers.values(), default=0)
        seen = self._position(f"versions/{repository}", newest)
        found = []
        for version in (version for version, number in numbers.items() if number > seen):
            try:
                found.append(happened.of_report(repository, version, registry.read_report(place / version)))
            except StorageError as error:
                logger.warning("no notice: %s", error)
        self._tell(f"versions/{repository}", [notice for notice in found if notice], seen, newest)

    def _drift(self, repository: str) -> None:
        """By their number: a time that a wrong clock said may be years ahead."""
        scores = read_scores(self._data.retraining(repository))
        place, newest = f"measured/{repository}", len(scores)
        seen = self._position(place, newest)
        self._tell(place, happened.of_drift(repository, scores[seen:]), seen, newest)

    def _receptions(self, repository: str) -> None:
        receptions = read_receptions(self._data.retraining(repository))
        place, newest = f"received/{repository}", len(receptions)
        seen = self._position(place, newest)
        self._tell(place, happened.of_receptions(repository, receptions[seen:]), seen, newest)

    def _ended(self, place: str, states: Sequence[State], kinds: Sequence[Kind]) -> None:
        """By the time of their end, in milliseconds. One that was written a moment later than another may have ended
        before it, so the last minute is looked at again."""
        ends = {job: int((job.ended or 0) * 1_000) for job in self._store.jobs(states=states, kinds=kinds)}
        newest = max(ends.values(), default=0)
        seen = self._position(place, newest)
        fresh = [happened.of_job(job) for job, ended in ends.items() if ended > seen - _OVERLAP_MS]
        self._tell(place, [notice for notice in fresh if notice], seen, newest)

    def _audit(self) -> None:
        """Some at a time, so that a company that comes by SCIM keeps nothing up."""
        with self._database.connect() as connection:
            newest = next(audit.entries(connection, newest=1), None)
        seen = self._position("audit", newest.number if newest else 0)
        with self._database.connect() as connection:
            found = list(islice(audit.entries(connection, seen), _AT_ONCE))
        notices = [notice for notice in map(happened.of_entry, found) if notice]
        self._tell("audit", notices, seen, found[-1].number if found else seen)

    def _tell(self, place: str, notices: Sequence[Notice], seen: int, now: int) -> None:
        for notice in notices:
            for number, endpoint in enumerate(self._endpoints):
                key = f"{notice.id}/{number}"[:128]
                if notice.type in endpoint.events and not self._store.knows("notify", key):
                    details = {"url": endpoint.url, "id": notice.id, "body": notice.body()}
                    self._store.add("notify", key, notice.type, details=details)
        if now > seen:
            with writing(self._database) as connection:
                connection.execute(update(positions).where(positions.c.place == place).values(position=now))

    def _position(self, place: str, now: int) -> int:
        """How far it was told of; where nothing is known, `now` is where it begins."""
        with writing(self._database) as connection:
            asked = select(positions.c.position).where(positions.c.place == place)
            known = connection.execute(asked).scalar()
            if known is None:
                connection.execute(insert(positions).values(place=place, position=now))
            return now if known is None else int(known)


def _number(version: str) -> int:
    """The time in its name; 0 where there is none."""
    digits = version[:15].replace("-", "")
    return int(digits) if len(digits) == 14 and digits.isdigit() else 0
