"""What the routes, hooks and the server's own threads do with the queue."""

from __future__ import annotations

import hashlib
import hmac
import logging
import secrets
import threading
import time
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError

from homespun_core import fences, storage
from homespun_core.config import Settings
from homespun_core.errors import ConfigError, HomespunError, StorageError, unless_read_only
from homespun_core.fences import Lease
from homespun_core.paths import DataDir, hide_credentials
from homespun_server.jobs.states import Job, Kind
from homespun_server.jobs.store import JobStore
from homespun_server.jobs.targets import Target, Targets

logger = logging.getLogger(__name__)

TOKEN_FILE = "worker.token"
_SEEN_S = 60.0
_HELD_UP_S = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Worker:
    name: str
    kinds: frozenset[Kind]
    seen: float
    """Of the monotonic clock."""


class Queue:
    """`token` is the workers'."""

    def __init__(self, store: JobStore, targets: Targets, data: DataDir, token: str) -> None:
        self.store, self._targets, self._data = store, targets, data
        self._token = hashlib.sha256(token.encode()).digest()
        self._workers: dict[str, Worker] = {}
        self._lock = threading.Lock()

    @property
    def configured(self) -> list[Target]:
        return self._targets.configured

    def is_worker(self, token: str) -> bool:
        return hmac.compare_digest(hashlib.sha256(token.encode("utf-8", "replace")).digest(), self._token)

    def ask(
        self, kind: Kind, word: str, *, commit: str | None = None, priority: int = 0, asked_by: str = "", known: bool
    ) -> Job:
        """`known`: only what is configured or indexed here. Raises ConfigError."""
        target = self._target(word, known)
        return self.store.add(
            kind, target.repository, target.source, commit=commit, priority=priority, asked_by=asked_by
        )

    def pushed(self, repository: str, commit: str | None) -> None:
        """A forge says so."""
        self._ask_if_possible(repository, commit, "push")

    def damaged(self, repository: str) -> None:
        """Its index can't be used."""
        self._ask_if_possible(repository, None, "damage")

    def _ask_if_possible(self, repository: str, commit: str | None, why: str) -> None:
        """What can't be asked for now is found at the next fetch, or push."""
        try:
            self.ask("index", repository, commit=commit, asked_by=why, known=True)
        except (HomespunError, DBAPIError) as error:
            logger.warning("%s of %s makes no job (%s)", why, repository, type(error).__name__)

    def parts(self, repository: str) -> frozenset[str]:
        return self._targets.parts(repository)

    def repository_of(self, word: str) -> str:
        """The id of what is configured or indexed here under that name. Raises ConfigError."""
        return self._target(word, True).repository

    def lease(self, worker: str, kinds: Collection[Kind]) -> Job | None:
        """The next job, once no earlier lease can publish any more."""
        self.heard_from(worker, kinds)
        job = self.store.lease(worker, kinds)
        if job is None:
            return None
        try:
            for folder in self._fenced(job):
                fences.raise_fence(folder, Lease(job.kind, job.fence))
        except (StorageError, OSError) as error:
            logger.warning("job %d waits: %s", job.id, error)
            self.store.report(job.id, job.fence, "given-back", reason=str(error), pause_s=_HELD_UP_S)
            return None
        return job

    def workers(self) -> list[Worker]:
        """Those that were heard from in the last minute."""
        limit = time.monotonic() - _SEEN_S
        with self._lock:
            self._workers = {name: worker for name, worker in self._workers.items() if worker.seen > limit}
            return sorted(self._workers.values(), key=lambda worker: worker.name)

    def heard_from(self, name: str, kinds: Collection[Kind] | None = None) -> None:
        """Without `kinds`, it does what it did before."""
        with self._lock:
            known = self._workers.get(name)
            same = known.kinds if known else frozenset[Kind]()
            found = same if kinds is None else frozenset(kinds)
            self._workers[name] = Worker(name=name, kinds=found, seen=time.monotonic())

    def _target(self, word: str, known: bool) -> Target:
        target = self._targets.find(word) if known else self._targets.named(word)
        if target is None:
            shown = hide_credentials(word[:200])
            raise ConfigError(f"{shown!r}: no repository that is configured or indexed here; see: homespun status")
        return target

    def _fenced(self, job: Job) -> list[Path]:
        """Where a job of this kind publishes."""
        folders = {"index": self._data.index, "train": self._data.adapters}
        return [folders[job.kind](job.repository)] if job.kind in folders else []


def queue_for(settings: Settings, database: Engine, targets: Targets | None = None) -> Queue:
    """The one of this server, which has just started."""
    data = DataDir(settings.data_root)
    store = JobStore(database, lease_s=settings.job_lease_s)
    store.resume()
    return Queue(store, targets or Targets(data), data, server_token(settings.worker_token, data))


def server_token(configured: str, data: DataDir) -> str:
    """The setting's, or a random one in a file that only this account can read; made where there is none."""
    if configured:
        return configured
    path = data.root / TOKEN_FILE
    try:
        found = path.read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        found = ""
    if not found:
        found = secrets.token_urlsafe(32)
        with unless_read_only(f"workers can't be told their token in {path}; set HOMESPUN_WORKER_TOKEN"):
            storage.write_atomic(path, found + "\n")
            path.chmod(0o600)
    return found


def own_token(configured: str, data: DataDir) -> str:
    """What a worker shows. Raises ConfigError."""
    if configured:
        return configured
    try:
        return (data.root / TOKEN_FILE).read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        raise ConfigError(
            f"{data.root / TOKEN_FILE}: not there; start the server on this data directory first,"
            " or set HOMESPUN_WORKER_TOKEN on both sides"
        ) from None
