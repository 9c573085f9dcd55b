"""Changes are noticed, together, and one at a time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from homespun_indexer import watch as watching
from homespun_indexer.watch import watch
from tests.indexer.conftest import Indexer
from tests.repos import commit, git, make_repo, write


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return make_repo(tmp_path / "r", {"a.py": "x = 1\n"})


@contextmanager
def watched(
    indexer: Indexer, path: Path, on_change: Callable[[], None], *, force_polling: bool = False
) -> Iterator[None]:
    stop = threading.Event()
    options = {"debounce_s": 0.15, "force_polling": force_polling}
    thread = threading.Thread(target=watch, args=(indexer.open(path), on_change, stop), kwargs=options)
    thread.start()
    time.sleep(0.4)  # until the observer stands; there is no event for that
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


def test_without_inotify_it_polls(indexer: Indexer, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Exhausted:
        def schedule(self, *_: object, **__: object) -> None:
            pass

        def start(self) -> None:
            raise OSError(28, "inotify watch limit reached")

        def unschedule_all(self) -> None:
            pass

    monkeypatch.setattr(watching, "Observer", Exhausted)
    monkeypatch.setattr(watching, "_POLL_S", 0.2)
    count = Count()
    with watched(indexer, path, count):
        write(path, {"a.py": "x = 2\n"})
        assert count.reaches(1)


def test_a_linked_worktree_notices_its_own_commits(indexer: Indexer, path: Path, tmp_path: Path) -> None:
    git(path, "worktree", "add", "--quiet", "-b", "feature", str(tmp_path / "feature"))
    count = Count()
    with watched(indexer, tmp_path / "feature", count):
        git(tmp_path / "feature", "commit", "--quiet", "--allow-empty", "--message", "Empty")
        assert count.reaches(1)
