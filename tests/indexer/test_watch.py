"""Changes are noticed, together, and one at a time."""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from watchdog.events import FileSystemEvent, FileSystemEventHandler
from watchdog.observers import Observer
from watchdog.observers.api import BaseObserver, EventEmitter, ObservedWatch
from watchdog.utils.dirsnapshot import DirectorySnapshot

from homespun_indexer import watch as watching
from homespun_indexer.repository import Repository
from homespun_indexer.watch import After, watch
from tests.indexer.conftest import Indexer
from tests.repos import commit, git, make_repo, write


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return make_repo(tmp_path / "r", {"a.py": "x = 1\n"})


@contextmanager
def watched(
    indexer: Indexer, path: Path, on_change: Callable[[], None], *, force_polling: bool = False
) -> Iterator[None]:
    """The first call, which says that the observers stand, isn't handed on."""
    stop, stands = threading.Event(), threading.Event()

    def handed_on() -> After:
        if stands.is_set():
            on_change()
        stands.set()
        return After.DONE

    options = {"debounce_s": 0.15, "force_polling": force_polling}
    thread = threading.Thread(target=watch, args=(indexer.open(path), handed_on, stop), kwargs=options)
    thread.start()
    assert stands.wait(10)
    try:
        yield
    finally:
        stop.set()
        thread.join(timeout=10)
        assert not thread.is_alive()


class Count:
    """Counts calls, and waits for them."""

    def __init__(self) -> None:
        self.calls = 0
        self._changed = threading.Condition()

    def __call__(self) -> None:
        with self._changed:
            self.calls += 1
            self._changed.notify_all()

    def reaches(self, calls: int, within_s: float = 8.0) -> bool:
        with self._changed:
            return self._changed.wait_for(lambda: self.calls >= calls, timeout=within_s)


@pytest.mark.parametrize("force_polling", [False, True])
def test_a_burst_of_saves_is_one_change(indexer: Indexer, path: Path, force_polling: bool) -> None:
    count = Count()
    with watched(indexer, path, count, force_polling=force_polling):
        for i in range(5):
            write(path, {f"new/file_{i}.py": "x = 1\n"})
        assert count.reaches(1)
        time.sleep(0.5)
        assert count.calls <= 2  # directories that are created and filled may be seen a moment apart


def test_a_commit_and_a_switch_of_branch_are_changes(indexer: Indexer, path: Path) -> None:
    count = Count()
    with watched(indexer, path, count):
        commit(path, {}, "Empty")
        assert count.reaches(1)
        time.sleep(0.5)
        before = count.calls
        git(path, "switch", "--quiet", "--create", "other")
        assert count.reaches(before + 1)


def test_what_does_not_matter_is_not_reported(indexer: Indexer, path: Path) -> None:
    (path / "node_modules").mkdir()
    (path / "__pycache__").mkdir()
    count = Count()
    with watched(indexer, path, count):
        write(
            path,
            {"node_modules/x.js": "1", "__pycache__/a.pyc": "1", ".git/index.lock": "1", ".git/COMMIT_EDITMSG": "1"},
        )
        (path / "a.py").read_text()
        time.sleep(0.8)
        assert count.calls == 0


def test_a_change_during_the_callback_is_reported_after_it(indexer: Indexer, path: Path) -> None:
    running, most, count = [0], [0], Count()

    def slow() -> None:
        running[0] += 1
        most[0] = max(most[0], running[0])
        if count.calls == 0:
            write(path, {"during.py": "x = 1\n"})
        time.sleep(0.3)
        running[0] -= 1
        count()

    with watched(indexer, path, slow):
        write(path, {"first.py": "x = 1\n"})
        assert count.reaches(2)
    assert most[0] == 1


class Exhausted(BaseObserver):
    """An observer on a machine with no watch left: for the top of the tree, or only for what lies below it, of which
    watchdog says nothing."""

    free = 0

    def __init__(self) -> None:
        super().__init__(EventEmitter)

    def schedule(self, *args: Any, **kwargs: Any) -> ObservedWatch:
        if not Exhausted.free:
            raise OSError(errno.ENOSPC, "inotify watch limit reached")
        Exhausted.free -= 1
        return ObservedWatch("/", recursive=True)


@pytest.mark.parametrize("free", [0, 1])
def test_without_inotify_it_polls(
    indexer: Indexer, path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, free: int
) -> None:
    monkeypatch.setattr(Exhausted, "free", free)
    monkeypatch.setattr(watching, "Observer", Exhausted)
    monkeypatch.setattr(watching, "_POLL_S", 0.2)
    count = Count()
    with watched(indexer, path, count):
        write(path, {"a.py": "x = 2\n"})
        assert count.reaches(1)
    assert "can't watch all directories (inotify watch limit reached; see fs.inotify" in caplog.text


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="inotify is Linux's")
@pytest.mark.parametrize("how", ["made", "moved"])
def test_watches_that_run_out_later_are_noticed(
    indexer: Indexer, path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, how: str
) -> None:
    """watchdog says nothing when it has none for a new folder; what was saved there was never seen."""
    from watchdog.observers import inotify_c

    is_full, add_watch = threading.Event(), inotify_c.inotify_add_watch

    def limited(fd: int, folder: bytes, mask: int) -> int:
        if is_full.is_set():
            ctypes.set_errno(errno.ENOSPC)
            return -1
        return add_watch(fd, folder, inotify_c.Mask(mask))

    monkeypatch.setattr(inotify_c, "inotify_add_watch", limited)
    monkeypatch.setattr(watching, "_POLL_S", 0.2)
    outside = path.with_name("outside")
    write(outside, {"b.py": "x = 1\n"})
    count = Count()
    with watched(indexer, path, count):
        is_full.set()
        (path / "new").mkdir() if how == "made" else outside.rename(path / "new")
        assert count.reaches(1)
        assert "can't watch all directories (inotify watch limit reached" in caplog.text
        time.sleep(0.5)
        before = count.calls
        write(path, {"new/b.py": "x = 23\n"})
        assert count.reaches(before + 1)


def test_polling_looks_at_our_code_only(indexer: Indexer, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A link to the folder above would be followed 40 levels deep, two of them 2^40 ways."""
    write(path, {"node_modules/x/index.js": "1", "src/b.py": "x = 1\n"})
    for name in ("up", "again"):
        (path / "src" / name).symlink_to("..")
    seen = {Path(str(p)) for p in DirectorySnapshot(str(path), listdir=watching._entries, stat=os.lstat).paths}
    assert {path / "src" / "b.py", path / ".git" / "HEAD", path / ".git" / "refs" / "heads" / "main"} <= seen
    assert not any({"node_modules", "objects"} & set(p.relative_to(path).parts) for p in seen)
    assert max(len(p.relative_to(path).parts) for p in seen) < 6


@pytest.mark.parametrize("force_polling", [False, True])
def test_saving_by_rename_is_noticed(indexer: Indexer, path: Path, force_polling: bool) -> None:
    """As vim, emacs and IDEs do it: a new file that takes the old one's place."""
    (path / "node_modules").mkdir()
    write(path, {"node_modules/new": "x = 2\n"})
    count = Count()
    with watched(indexer, path, count, force_polling=force_polling):
        (path / "node_modules" / "new").rename(path / "a.py")
        assert count.reaches(1)


@pytest.mark.parametrize("force_polling", [False, True])
def test_a_renamed_folder_is_noticed_and_what_is_saved_in_it_then(
    indexer: Indexer, path: Path, force_polling: bool
) -> None:
    write(path, {"old/deep/b.py": "x = 1\n"})
    count = Count()
    with watched(indexer, path, count, force_polling=force_polling):
        (path / "old").rename(path / "new")
        assert count.reaches(1)
        time.sleep(0.5)
        before = count.calls
        write(path, {"new/deep/b.py": "x = 23\n"})
        assert count.reaches(before + 1)


def test_a_tree_that_never_rests_is_reported_all_the_same(
    indexer: Indexer, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "_MAX_WAIT_S", 0.3)
    count, done = Count(), threading.Event()

    def write_on() -> None:
        while not done.wait(0.02):
            write(path, {"log.py": f"x = {time.monotonic_ns()}\n"})

    writer = threading.Thread(target=write_on)
    writer.start()
    try:
        with watched(indexer, path, count):
            assert count.reaches(2)
    finally:
        done.set()
        writer.join()


def test_a_linked_worktree_notices_its_own_commits(indexer: Indexer, path: Path, tmp_path: Path) -> None:
    git(path, "worktree", "add", "--quiet", "-b", "feature", str(tmp_path / "feature"))
    count = Count()
    with watched(indexer, tmp_path / "feature", count):
        git(tmp_path / "feature", "commit", "--quiet", "--allow-empty", "--message", "Empty")
        assert count.reaches(1)


@contextmanager
def answering(repo: Repository, answers: list[After], *, force_polling: bool = False) -> Iterator[tuple[Count, Thread]]:
    """A watch whose changes end like this, the later ones well."""
    stop, count = threading.Event(), Count()

    def answer() -> After:
        count()
        return answers.pop(0) if answers else After.DONE

    thread = Thread(target=watch, args=(repo, answer, stop), kwargs={"force_polling": force_polling})
    thread.start()
    try:
        yield count, thread
    finally:
        stop.set()
        thread.join(timeout=10)


def test_what_fails_is_tried_again(indexer: Indexer, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A save while another process held the lock was lost until the next save."""
    monkeypatch.setattr(watching, "FIRST_PAUSE_S", 0.01)
    with answering(indexer.open(path), [After.FAILED] * 3) as (count, _):
        assert count.reaches(4)
        time.sleep(0.3)
        assert count.calls == 4


def test_a_change_is_tried_at_once_in_a_pause(indexer: Indexer, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "FIRST_PAUSE_S", 1000.0)
    with answering(indexer.open(path), [After.FAILED]) as (count, _):
        assert count.reaches(1)
        write(path, {"a.py": "x = 2\n"})
        assert count.reaches(2)


def test_a_repository_that_is_replaced_ends_the_watch(indexer: Indexer, path: Path) -> None:
    """Deleted and cloned again, it was waited for for ever: the events of a directory end with it, and the new one may
    have the same inode."""
    with answering(indexer.open(path), []) as (count, thread):
        assert count.reaches(1)
        shutil.rmtree(path)
        make_repo(path, {"b.py": "x = 1\n"})
        thread.join(timeout=10)
        assert not thread.is_alive()


def test_polling_ends_with_a_replaced_repository_or_sees_the_new_one(indexer: Indexer, path: Path) -> None:
    """It goes by path: where the new directory has the old one's inode, it is simply what is looked at."""
    with answering(indexer.open(path), [], force_polling=True) as (count, thread):
        assert count.reaches(1)
        shutil.rmtree(path)
        make_repo(path, {"b.py": "x = 1\n"})
        thread.join(timeout=4)
        assert not thread.is_alive() or count.reaches(2)


def test_a_repository_that_is_moved_away_ends_the_watch(indexer: Indexer, path: Path) -> None:
    with answering(indexer.open(path), []) as (count, thread):
        assert count.reaches(1)
        path.rename(path.with_name("elsewhere"))
        thread.join(timeout=10)
        assert not thread.is_alive()


def test_other_directories_to_watch_end_the_watch(indexer: Indexer, path: Path) -> None:
    with answering(indexer.open(path), [After.MOVED]) as (_, thread):
        thread.join(timeout=10)
        assert not thread.is_alive()


def test_reading_files_is_no_event(tmp_path: Path, indexer: Indexer) -> None:
    """Indexing reads every file: as events these overflowed the queue of a repository of 40,000 files, for ever."""
    repo = indexer.open(make_repo(tmp_path / "r", {"a.py": "A = 1\n"}))
    seen: list[FileSystemEvent] = []

    class Recorder(FileSystemEventHandler):
        def on_any_event(self, event: FileSystemEvent) -> None:
            seen.append(event)

    observer = Observer()
    watching._schedule(observer, repo, Recorder())
    observer.start()
    try:
        for _ in range(50):
            (tmp_path / "r/a.py").read_bytes()
        (tmp_path / "r/a.py").write_bytes(b"A = 2\n")
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline and not any(e.event_type == "closed" for e in seen):
            time.sleep(0.01)
    finally:
        observer.stop()
        observer.join()
    assert {event.event_type for event in seen} <= {"modified", "closed"}
    assert any(event.event_type == "closed" for event in seen)
