"""From a hook to a nudge or a job: genuine, not seen before, and about a repository that is indexed here."""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from homespun_core import nudges, storage
from homespun_core.errors import StorageError
from homespun_core.paths import DataDir, is_remote, repo_identity
from homespun_indexer import snapshot
from homespun_server.hooks.forges import (
    Hook,
    delivery_of,
    forge_of,
    is_push,
    payload_of,
    pushed_commit,
    repository_names,
)

logger = logging.getLogger(__name__)

_REMEMBERED = 4_096
MAX_READ_BYTES = 40_000_000
"""Of all hooks together: eight of the largest, or thousands of ordinary ones."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    status: int
    outcome: str
    """One of `nudged`, `unknown`, `replayed`, `ignored` (not a push), and refusals."""
    message: str


ACCEPTED = 202


class Deliveries:
    """The last deliveries, by forge and id. A forge sends one again when it wasn't answered; so may others."""

    def __init__(self, size: int = _REMEMBERED) -> None:
        self._size = size
        self._seen: OrderedDict[tuple[str, str], None] = OrderedDict()
        self._lock = threading.Lock()

    def has(self, forge: str, delivery: str) -> bool:
        with self._lock:
            return (forge, delivery) in self._seen

    def add(self, forge: str, delivery: str) -> None:
        with self._lock:
            self._seen[forge, delivery] = None
            if len(self._seen) > self._size:
                self._seen.popitem(last=False)


class Room:
    """For hooks that are read: nobody knows who sends them before their end. For one event loop."""

    def __init__(self, num_bytes: int = MAX_READ_BYTES) -> None:
        self.free = num_bytes

    @contextmanager
    def place(self) -> Iterator[Place]:
        place = Place(self)
        try:
            yield place
        finally:
            self.free += place.size


class Place:
    """One hook's."""

    def __init__(self, room: Room) -> None:
        self.size, self._room = 0, room

    def takes(self, num_bytes: int) -> bool:
        """Whether there is room for that many more."""
        if num_bytes > self._room.free:
            return False
        self._room.free -= num_bytes
        self.size += num_bytes
        return True


class Receiver:
    """Where `homespun index --watch` runs, it is nudged: it looks within half a second. Elsewhere `ask` makes a job for
    a worker; it raises HomespunError where it can't."""

    def __init__(self, data: DataDir, secret: str, ask: Callable[[str, str | None], object] | None = None) -> None:
        self._data, self._secret = data, secret.encode("utf-8", "surrogateescape")
        self._ask = ask
        self._deliveries = Deliveries()
        self.room = Room()

    @property
    def is_on(self) -> bool:
        return bool(self._secret)

    def receive(self, hook: Hook, now: float) -> Answer:
        """Nothing of the hook is read before its signature is; a form is unpacked where that is over its payload.
        Whether a repository is known isn't an error of the forge's, so that is no refusal."""
        if not self.is_on:
            return _refused(403, "off", "hooks are off; set HOMESPUN_WEBHOOK_SECRET here and as the hook's secret")
        forge = forge_of(hook.headers)
        if forge is None:
            return _refused(400, "unrecognised", "not a hook of GitHub, GitLab, Gitea, Forgejo or Bitbucket")
        if not forge.is_genuine(hook, self._secret, now):
            logger.warning("a hook that says it is %s's has a wrong or no signature", forge.name)
            return _refused(401, "forged", "wrong signature; compare the hook's secret with HOMESPUN_WEBHOOK_SECRET")
        if not is_push(forge, hook.headers):
            return _accepted("ignored", "not a push")
        delivery = delivery_of(forge, hook.headers)
        if delivery is not None and self._deliveries.has(forge.name, delivery):
            return _accepted("replayed", "seen before")
        try:
            payload = payload_of(hook)
            names = list(repository_names(payload))
        except (ValueError, UnicodeDecodeError):
            return _refused(400, "malformed", "the payload is not a JSON object")
        nudged = self._tell(names, pushed_commit(payload))
        if delivery is not None:
            self._deliveries.add(forge.name, delivery)
        return _accepted("nudged", "") if nudged else _accepted("unknown", "no such repository is fetched here")

    def _tell(self, names: Iterable[str], commit: str | None) -> list[str]:
        found = matching(indexed_remotes(self._data), names)
        for repo in found:
            nudges.nudge(self._data, repo)
            if self._ask is not None and not nudges.is_read(self._data, repo):
                self._ask(repo, commit)
        return found


def indexed_remotes(data: DataDir) -> dict[str, str]:
    """Directory name -> `host/owner/name` of what is indexed here and fetched from elsewhere."""
    found = {}
    for folder in data.index_root.iterdir() if data.index_root.is_dir() else ():
        path = storage.current(folder)
        try:
            if path is not None:
                found[folder.name] = storage.read_manifest(path, snapshot.KIND, snapshot.FORMAT).sources["repository"]
        except (StorageError, KeyError) as error:
            logger.warning("hooks about it are of no use: %s", error)
    return {repo: identity for repo, identity in found.items() if not identity.startswith("/")}


def matching(remotes: Mapping[str, str], names: Iterable[str]) -> list[str]:
    """By URL, whatever its protocol; else by `owner/name`: a forge may know itself by another host name than we do, and
    some payloads of Bitbucket Data Center have no URL."""
    texts = [name.strip() for name in names]
    identities = {repo_identity(text) for text in texts if is_remote(text)}
    exact = [repo for repo, identity in remotes.items() if identity in identities]
    if exact:
        return exact
    paths = {text.strip("/").lower() for text in texts if not is_remote(text) and "/" in text.strip("/")}
    return [repo for repo, identity in remotes.items() if not paths.isdisjoint(_paths(identity))]


def _paths(identity: str) -> tuple[str, str]:
    """`owner/name`. Bitbucket Data Center serves clones below `scm/`, where another forge may have a group."""
    path = identity.partition("/")[2].lower()
    return path, path.removeprefix("scm/")


def _accepted(outcome: str, message: str) -> Answer:
    return Answer(status=ACCEPTED, outcome=outcome, message=message)


def _refused(status: int, outcome: str, message: str) -> Answer:
    return Answer(status=status, outcome=outcome, message=message)
