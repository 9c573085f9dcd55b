"""Notices when a local repository changes: a file saved, a commit made, a branch switched.

Events of the operating system where there are enough of them to be had (inotify's limit is a setting of the machine), a
look at all files every few seconds otherwise. That look leaves out other people's code (`node_modules`). The events
can't: watchdog has no way to, so there it costs watches.
"""

from __future__ import annotations

import enum
import errno
import logging
import math
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from watchdog.events import (
    DirCreatedEvent,
    DirDeletedEvent,
    DirMovedEvent,
    FileClosedEvent,
    FileCreatedEvent,
    FileDeletedEvent,
    FileModifiedEvent,
    FileMovedEvent,
    FileSystemEvent,
    FileSystemEventHandler,
)
from watchdog.observers import Observer
from watchdog.observers.api import BaseObserver
from watchdog.observers.polling import PollingObserverVFS

from homespun_indexer.filters import is_vendored
from homespun_indexer.repository import Repository

logger = logging.getLogger(__name__)

DEBOUNCE_S = 0.05
_MAX_WAIT_S = 2.0
"""A tree that never comes to rest (a build writing into it) is reported at least this often."""
_POLL_S = 5.0
_EVENTS: list[type[FileSystemEvent]] = [
    FileCreatedEvent,
    FileModifiedEvent,
    FileMovedEvent,
    FileDeletedEvent,
    FileClosedEvent,
    DirCreatedEvent,
    DirMovedEvent,
    DirDeletedEvent,
]
"""Not that files are opened and read: indexing does that to all of them, and tens of thousands overflow the queue of
events, whereupon the folders are read again, which overflows it again (seen with 40,000 files)."""
_CHECK_S = 0.5
"""How often we look whether what we watch is still there."""
FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 60.0
"""Between attempts at what has failed; each pause is twice the one before."""
_WRITES = frozenset({"created", "modified", "moved", "deleted", "closed"})


class After(enum.Enum):
    """What became of a change."""

    DONE = enum.auto()
    FAILED = enum.auto()
    """To be tried again."""
    MOVED = enum.auto()
    """It is done, and other directories have to be watched now."""


def watch(
    repo: Repository,
    on_change: Callable[[], After],
    stop: threading.Event,
    *,
    debounce_s: float = DEBOUNCE_S,
    force_polling: bool = False,
) -> None:
    """Call `on_change` at once, after changes have come to rest, and again while it fails. Blocks until `stop` is set,
    `on_change` says that the repository has moved, or its directories are gone or others have taken their place.

    `on_change` runs in the calling thread, so never twice at once; what changes meanwhile is reported after it. An
    exception from it ends the watch. Ignored directories aren't told apart here: the index, which finds nothing new, is
    built in no time.
    """
    changed, found = threading.Event(), _inodes(repo)
    handler = _Handler(repo, changed)
    pause, due = FIRST_PAUSE_S, 0.0  # at once: what changed before the observers stood has no event
    with closing(_Observing(repo, handler, force_polling=force_polling)) as observing:
        while not stop.is_set() and not handler.is_lost and _inodes(repo) == found:
            if changed.wait(max(0.0, min(_CHECK_S, due - time.monotonic()))):
                _settle(changed, stop, debounce_s)
                observing.look_again()
            elif time.monotonic() < due:
                continue
            after = After.MOVED if stop.is_set() else on_change()
            if after is After.MOVED:
                return
            failed = after is After.FAILED
            due = time.monotonic() + pause if failed else math.inf
            pause = min(2 * pause, LONGEST_PAUSE_S) if failed else FIRST_PAUSE_S


@contextmanager
def changes_in(folder: Path, on_change: Callable[[], None]) -> Iterator[None]:
    """Call `on_change`, in another thread, when a file comes into a folder or is replaced there, where the operating
    system tells: not of what other machines do in a shared folder, nor when it is out of watches."""
    folder.mkdir(parents=True, exist_ok=True)
    observer = Observer()
    observer.schedule(_Calling(on_change), str(folder), event_filter=[FileCreatedEvent, FileMovedEvent])
    try:
        observer.start()
    except OSError as error:
        logger.info("%s: can't be watched (%s); it is looked at now and then", folder, error.strerror)
    try:
        yield
    finally:
        _stop(observer)


class _Calling(FileSystemEventHandler):
    def __init__(self, on_change: Callable[[], None]) -> None:
        self._on_change = on_change

    def on_any_event(self, event: FileSystemEvent) -> None:
        self._on_change()


def _settle(changed: threading.Event, stop: threading.Event, debounce_s: float) -> None:
    """Return when nothing has changed for `debounce_s`, or something has for _MAX_WAIT_S."""
    deadline = time.monotonic() + _MAX_WAIT_S
    while True:
        changed.clear()
        if stop.wait(debounce_s) or not changed.is_set():
            return
        if time.monotonic() > deadline:
            changed.clear()  # what comes from now on is reported after this
            return


class _Handler(FileSystemEventHandler):
    def __init__(self, repo: Repository, changed: threading.Event) -> None:
        self._work_tree = repo.work_tree
        self._git_dirs = tuple(_git_dirs(repo))
        self._roots = frozenset(map(str, _roots(repo)))
        self._changed = changed
        self.is_lost = False
        """Whether a directory that we watch was deleted. A new one may well be given the same inode."""
        self.has_grown = False
        """Whether there are directories that weren't there when this was last reset."""

    def on_any_event(self, event: FileSystemEvent) -> None:
        if event.event_type not in _WRITES or (event.is_directory and event.event_type == "modified"):
            return
        if event.event_type == "deleted" and event.src_path in self._roots:
            self.is_lost = True
        if any(self._matters(Path(str(path))) for path in (event.src_path, event.dest_path) if path):
            self.has_grown |= event.is_directory and event.event_type != "deleted"
            self._changed.set()

    def _matters(self, path: Path) -> bool:
        for git_dir in self._git_dirs:
            if path.is_relative_to(git_dir):
                return _is_ref(path.relative_to(git_dir))
        if self._work_tree is None or not path.is_relative_to(self._work_tree):
            return False
        inside = path.relative_to(self._work_tree).as_posix()
        return not is_vendored(inside) and "/__pycache__/" not in f"/{inside}"


def _is_ref(path: Path) -> bool:
    if path.suffix == ".lock":  # git writes these first and renames them
        return False
    return path.parts[:1] == ("refs",) or path.as_posix() in ("HEAD", "packed-refs")


def _git_dirs(repo: Repository) -> Iterator[Path]:
    """A worktree's own directory, and the one it shares with the others, which holds the branches."""
    yield repo.git_dir
    shared = repo.git_dir / "commondir"
    if shared.is_file():
        yield (repo.git_dir / shared.read_text(encoding="utf-8").strip()).resolve()


class _Observing:
    """Events of the operating system; polling from when there are no watches for all directories any more."""

    def __init__(self, repo: Repository, handler: _Handler, *, force_polling: bool) -> None:
        self._repo, self._handler = repo, handler
        self._is_polling = force_polling
        self._observer: BaseObserver = self._polling(min(_POLL_S, 1.0)) if force_polling else Observer()
        if not force_polling:
            self._or_poll(self._start)

    def look_again(self) -> None:
        """To be called after changes: what was saved in a directory before it is polled has no event."""
        has_grown, self._handler.has_grown = self._handler.has_grown, False
        if has_grown and not self._is_polling:
            self._or_poll(lambda: _check_room(self._observer))

    def close(self) -> None:
        _stop(self._observer)

    def _start(self) -> None:
        _schedule(self._observer, self._repo, self._handler)
        self._observer.start()
        _check_room(self._observer)

    def _or_poll(self, watch: Callable[[], None]) -> None:
        try:
            watch()
        except OSError as error:
            _stop(self._observer)
            if error.errno not in (errno.ENOSPC, errno.EMFILE, errno.ENOSYS):
                raise
            logger.warning(
                "%s: can't watch all directories (%s; see fs.inotify.max_user_watches); looking every %.0f s",
                self._repo.name,
                error.strerror,
                _POLL_S,
            )
            self._observer, self._is_polling = self._polling(_POLL_S), True

    def _polling(self, interval_s: float) -> BaseObserver:
        polling = PollingObserverVFS(os.lstat, _entries, polling_interval=interval_s)
        _schedule(polling, self._repo, self._handler)
        polling.start()
        return polling


def _check_room(observer: BaseObserver) -> None:
    """Raises OSError (ENOSPC) when there are no watches left: watchdog 7.1 says so about the top of a tree only, and
    silently goes without the folders below that it had none for."""
    if not sys.platform.startswith("linux"):
        return
    probe = observer.schedule(FileSystemEventHandler(), os.sep)
    observer.unschedule(probe)


def _stop(observer: BaseObserver) -> None:
    observer.unschedule_all()
    if observer.is_alive():
        observer.stop()
        observer.join(timeout=10)


def _entries(folder: str | None) -> Iterator[os.DirEntry[str]]:
    """What polling looks at: not at other people's code, nor at git's objects."""
    assert folder is not None
    with os.scandir(folder) as found:
        entries = list(found)
    is_git = any(entry.name == "objects" for entry in entries) and any(entry.name == "HEAD" for entry in entries)
    left_out = _is_git_content if is_git else _is_others_code
    return iter([entry for entry in entries if not left_out(entry.name)])


def _is_git_content(name: str) -> bool:
    return name in ("objects", "lfs", "modules")


def _is_others_code(name: str) -> bool:
    return name != ".git" and is_vendored(f"{name}/")


def _schedule(observer: BaseObserver, repo: Repository, handler: FileSystemEventHandler) -> None:
    for root in _roots(repo):
        observer.schedule(handler, str(root), recursive=True, event_filter=_EVENTS)


def _roots(repo: Repository) -> list[Path]:
    """The work tree, and the git directories that lie outside it."""
    roots = [repo.work_tree] if repo.work_tree is not None else []
    roots += [d for d in _git_dirs(repo) if repo.work_tree is None or not d.is_relative_to(repo.work_tree)]
    return roots


def _inodes(repo: Repository) -> list[tuple[int, int] | None]:
    return [_inode(root) for root in _roots(repo)]


def _inode(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino
