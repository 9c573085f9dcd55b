"""Processes that parse: ready before they are needed, used once, and gone whatever ends what they work for."""

from __future__ import annotations

import multiprocessing
import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from homespun_core import nudges
from homespun_core.cli import INTERRUPTED
from homespun_core.config import Settings
from homespun_core.errors import RepositoryError
from homespun_core.paths import DataDir, repo_id
from homespun_core.repositories import RepositoryConfig
from homespun_core.storage import current
from homespun_core.types import ModelFiles, SilentProgress, Tokenizer
from homespun_indexer import processes
from homespun_indexer.build import Job, SpareBuilder, build_segment
from homespun_indexer.cli import Followed
from homespun_indexer.processes import Counter, Processes, Spare
from homespun_indexer.segment import IndexedFile
from tests.e2e.command import HOMESPUN
from tests.faults.git_host import Host, hosting
from tests.repos import SHOP, commit, git, make_repo


def whoami(_job: int, tokenizer: Tokenizer, counter: Counter) -> int:
    """The process that does it, once it has loaded everything."""
    assert tokenizer.encode("def total")
    counter.advance(1)
    return os.getpid()


def death(_job: int, _tokenizer: Tokenizer, _counter: Counter) -> int:
    os.kill(os.getpid(), signal.SIGKILL)
    return 0


@pytest.fixture
def spare() -> Iterator[Spare[int, int]]:
    with closing(Spare(whoami)) as found:
        yield found


def waiting() -> list[int]:
    return [child.pid for child in multiprocessing.active_children() if child.pid is not None]


def used(found: Processes[int, int] | None) -> list[int]:
    assert found is not None
    with found:
        return found.run([0], SilentProgress())


def test_the_process_that_waits_is_the_one_that_works_and_is_used_once(
    spare: Spare[int, int], model: ModelFiles
) -> None:
    spare.renew(model)
    spare.renew(model)
    (pid,) = waiting()
    assert used(spare.take(model)) == [pid]
    assert waiting() == [] and spare.take(model) is None
    spare.renew(model)
    assert used(spare.take(model)) != [pid]


def test_one_that_was_killed_while_it_waited_is_not_given_away(spare: Spare[int, int], model: ModelFiles) -> None:
    spare.renew(model)
    _kill(waiting())
    assert spare.take(model) is None
    spare.renew(model)
    _kill(waiting())
    spare.renew(model)
    (pid,) = waiting()
    assert used(spare.take(model)) == [pid]


def test_one_that_loaded_another_model_is_not_given_away(spare: Spare[int, int], model: ModelFiles) -> None:
    spare.renew(model)
    other = ModelFiles(**{name: getattr(model, name) for name in model.__slots__} | {"name": "another"})
    assert spare.take(other) is None and waiting() == []


def test_one_whose_thread_has_ended_is_replaced(spare: Spare[int, int], model: ModelFiles) -> None:
    """The kernel ends it then: it takes a thread for the parent."""

    def renew() -> None:
        spare.renew(model)
        assert spare._waiting is not None
        spare._waiting.run([0], SilentProgress())  # it is ready then

    thread = threading.Thread(target=renew)
    thread.start()
    thread.join()
    (first,) = waiting()
    until(lambda: not is_running(first))
    spare.renew(model)
    assert used(spare.take(model)) != [first]


def test_a_machine_that_has_no_room_for_one_goes_without(
    spare: Spare[int, int], model: ModelFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(processes, "Processes", refuse)
    spare.renew(model)
    assert spare.take(model) is None


def test_a_process_that_dies_at_work_breaks_its_group_and_no_other(spare: Spare[int, int], model: ModelFiles) -> None:
    spare.renew(model)
    with Processes(death, model) as dying, pytest.raises(BrokenProcessPool):
        dying.run([0], SilentProgress())
    assert len(used(spare.take(model))) == 1


# As a watcher uses them.


class Site:
    """A repository at a host, and who follows it there."""

    def __init__(self, root: Path, host: Host) -> None:
        self.work_tree, self._bare = root / "work", host.root / "shop.git"
        make_repo(self.work_tree, SHOP)
        git(host.root, "clone", "--quiet", "--bare", str(self.work_tree), str(self._bare))
        self.url, self.data = host.url("shop.git"), DataDir(root / "data")

    def push(self, name: str) -> None:
        commit(self.work_tree, {name: "def pushed(x):\n    return x\n"})
        git(self.work_tree, "push", "--quiet", "--force", str(self._bare), "main")
        nudges.nudge(self.data, repo_id(self.url))

    @property
    def generation(self) -> Path | None:
        return current(self.data.index(repo_id(self.url)))


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    (tmp_path / "host").mkdir()
    with hosting(tmp_path / "host") as host:
        yield Site(tmp_path, host)


@contextmanager
def following(followed: Followed) -> Iterator[None]:
    stop = threading.Event()
    thread = threading.Thread(target=followed.follow, args=[stop])
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def test_each_push_is_parsed_by_the_process_that_waited_for_it(site: Site) -> None:
    taken: list[bool] = []

    class Watched(SpareBuilder):
        def take(self, model: ModelFiles) -> Processes[Job, list[IndexedFile]] | None:
            found = super().take(model)
            taken.append(found is not None)
            return found

    with closing(Watched(build_segment)) as spare:
        followed = Followed(RepositoryConfig(source=site.url), Settings(data_dir=str(site.data.root)), spare)
        assert followed.refresh(SilentProgress())
        with following(followed):
            for name in ("a.py", "b.py"):
                until(lambda: len(waiting()) == 1)
                pushed(site, name)
    assert taken == [False, True, True]
    assert followed.failure is None


def test_a_push_that_takes_too_long_ends_the_process_that_waited(site: Site, model: ModelFiles) -> None:
    settings = Settings(data_dir=str(site.data.root))
    with closing(SpareBuilder(build_segment)) as spare:
        assert Followed(RepositoryConfig(source=site.url), settings, spare).refresh(SilentProgress())
        site.push("a.py")
        spare.renew(model)
        hurried = Followed(RepositoryConfig(source=site.url), replace(settings, index_minutes=0), spare)
        assert not hurried.refresh(SilentProgress())
        assert isinstance(hurried.failure, RepositoryError) and "took longer" in str(hurried.failure)
        assert waiting() == []


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_watcher_that_ends_leaves_no_process_waiting(site: Site, tmp_path: Path, how: signal.Signals) -> None:
    def is_ready(pid: int) -> bool:
        """It ignores Ctrl-C since it has loaded everything."""
        (ignored,) = re.findall(r"SigIgn:\s*(\w+)", Path(f"/proc/{pid}/status").read_text())
        return bool(int(ignored, 16) & 1 << signal.SIGINT - 1)

    command = [*HOMESPUN, "index", "--watch", site.url, f"--data-dir={site.data.root}"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as watcher:
        until(lambda: site.generation is not None)
        until(lambda: len(spawned(watcher.pid)) == 1 and nudges.is_read(site.data, repo_id(site.url)))
        (pid,) = spawned(watcher.pid)
        until(lambda: is_ready(pid))
        watcher.send_signal(how)
        _, said = watcher.communicate(timeout=30)
    until(lambda: not is_running(pid))
    assert "Traceback" not in said and ("leaked" in said) == (how == signal.SIGKILL)
    assert watcher.returncode == {signal.SIGKILL: -9, signal.SIGTERM: 143, signal.SIGINT: INTERRUPTED}[how]


def spawned(parent: int) -> list[int]:
    tasks = Path(f"/proc/{parent}/task").glob("*/children")
    children = [int(child) for task in tasks for child in task.read_text().split()]
    return [child for child in children if b"spawn_main" in _words(child)]


def _words(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:  # it has ended
        return b""


def is_running(pid: int) -> bool:
    """Not when it has closed everything: a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def until(claim: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not claim():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def pushed(site: Site, name: str) -> None:
    before = site.generation
    site.push(name)
    until(lambda: site.generation != before)


def _kill(pids: list[int]) -> None:
    assert pids
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    until(lambda: not any(map(is_running, pids)))
