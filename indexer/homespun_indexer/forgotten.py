"""What must not be trained on any more, as people asked with `homespun forget`: kept in the data directory, and in the
fingerprint of every corpus it is about."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass, field, replace

from homespun_core import storage
from homespun_core.errors import BusyError, StorageError
from homespun_core.paths import DataDir
from homespun_core.patterns import is_ignored, parse_globs

_PATIENCE_S = 10.0
"""An adapter is published in a second, on a slow disk in some."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Forgotten:
    """One request. With neither path nor author it is about all of a repository."""

    repository: str | None = None
    """Id in the data directory; None is every repository."""
    name: str | None = None
    """What people call it."""
    path: str | None = None
    """A pattern as in .gitignore."""
    author: str | None = None
    """Hash of an e-mail address; the address itself isn't kept."""
    asked: str = ""
    """UTC, ISO 8601."""
    is_done: bool = field(default=True, compare=False)
    """Whether all that was trained on it before is gone."""

    @property
    def is_whole(self) -> bool:
        return self.path is None and self.author is None

    def is_about(self, repository: str) -> bool:
        return self.repository in (None, repository)

    def covers(self, names: tuple[str, ...], authors: Iterable[str]) -> bool:
        """Of a file in a repository that it is about, by all paths that it had."""
        if self.author is not None and self.author not in authors:
            return False
        return self.path is None or any(is_ignored(name, parse_globs([self.path])) for name in names)


def load(data: DataDir) -> tuple[Forgotten, ...]:
    """Raises StorageError when it can't be read: training on must not be the answer to that."""
    try:
        return _requests(json.loads(data.forgotten.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return ()
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise StorageError(
            f"{data.forgotten}: unreadable ({type(error).__name__}); restore it: it says what must not be trained on"
        ) from error


def _requests(rows: object) -> tuple[Forgotten, ...]:
    """Raises TypeError: what is there and no list of requests doesn't say that nothing is to be forgotten."""
    if not isinstance(rows, list):
        raise TypeError
    if not all(isinstance(value, str | bool | None) for row in rows for value in row.values()):
        raise TypeError
    return tuple(Forgotten(**row) for row in rows)


def add(data: DataDir, request: Forgotten) -> None:
    """Durable when this returns, and not done. Asking twice is asking once. Raises StorageError while another process
    writes."""
    with _locked(data):
        known = load(data)
        if any(_same(request, other) for other in known):
            _write(data, _marked(known, request, is_done=False))
        else:
            asked = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
            _write(data, (*known, replace(request, asked=asked, is_done=False)))


def finish(data: DataDir, request: Forgotten) -> None:
    """All that was trained on it is gone."""
    with _locked(data):
        _write(data, _marked(load(data), request, is_done=True))


def finish_all(data: DataDir, take_away: Callable[[Forgotten], None]) -> list[str]:
    """Goes on with what a `homespun forget` has left that was killed, or that a training was in the way of. Returns
    what is in the way now; `take_away` may raise StorageError."""
    problems: list[str] = []
    try:
        left = [request for request in load(data) if not request.is_done]
        if left:
            with at_work(data, patience_s=0.0):
                problems += [said for request in left if (said := _finished(data, request, take_away))]
    except BusyError:  # whoever asked for it is at it
        pass
    except (StorageError, OSError) as error:
        problems.append(str(error))
    return problems


def _finished(data: DataDir, request: Forgotten, take_away: Callable[[Forgotten], None]) -> str | None:
    try:
        take_away(request)
        finish(data, request)
    except StorageError as error:
        return str(error)
    return None


def at_work(data: DataDir, patience_s: float = _PATIENCE_S) -> AbstractContextManager[None]:
    """One at a time takes away what is to be forgotten. Raises BusyError."""
    return storage.locked(data.locks / "forgetting.lock", "another `homespun forget`", patience_s)


def remove(data: DataDir, number: int) -> Forgotten:
    """Take back request `number`, counted from 1. Raises StorageError when there is none."""
    with _locked(data):
        known = load(data)
        if not 1 <= number <= len(known):
            raise StorageError(f"{number}: no such request; `homespun forget --list` shows the {len(known)} there are")
        _write(data, (*known[: number - 1], *known[number:]))
        return known[number - 1]


def _locked(data: DataDir) -> AbstractContextManager[None]:
    """Of two that write at the same time, one would lose a request."""
    return storage.locked(data.locks / "forgotten.lock", "another `homespun forget`", _PATIENCE_S)


@contextmanager
def standing(data: DataDir, before: Sequence[Forgotten]) -> Iterator[list[Forgotten]]:
    """Requests that came since `before` was read; none comes in this block. Who publishes in it what is covered by none
    of them has it seen by whoever forgets next."""
    with _locked(data):
        yield [request for request in load(data) if request not in before]


def about(requests: Iterable[Forgotten], repository: str) -> list[Forgotten]:
    return [r for r in requests if r.is_about(repository)]


def is_whole(requests: Iterable[Forgotten], repository: str) -> bool:
    """Whether all of it is to be forgotten."""
    return any(request.is_whole for request in about(requests, repository))


def key(requests: Iterable[Forgotten]) -> list[list[str | None]]:
    """What of the requests shapes a corpus, in an order of its own."""
    return sorted(([r.path, r.author] for r in requests), key=str)


def is_forgotten(names: tuple[str, ...], authors: Collection[str], requests: Sequence[Forgotten]) -> bool:
    return any(r.covers(names, authors) for r in requests)


def _marked(requests: Iterable[Forgotten], request: Forgotten, *, is_done: bool) -> list[Forgotten]:
    return [replace(r, is_done=is_done) if _same(r, request) else r for r in requests]


def _same(one: Forgotten, other: Forgotten) -> bool:
    return (one.repository, one.path, one.author) == (other.repository, other.path, other.author)


def _write(data: DataDir, requests: Sequence[Forgotten]) -> None:
    storage.write_atomic(data.forgotten, json.dumps([asdict(r) for r in requests], indent=1) + "\n")
