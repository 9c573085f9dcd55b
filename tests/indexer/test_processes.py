"""Processes that parse: ready before they are needed, each for one repository, and gone whatever ends what they work
for."""

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
from contextlib import ExitStack, closing, contextmanager
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
from homespun_indexer.build import Job, Outcome, SpareBuilder, build_segment
from homespun_indexer.cli import Followed
from homespun_indexer.processes import Counter, Processes, Spare
from tests.e2e.command import HOMESPUN
from tests.faults.git_host import Host, hosting
from tests.repos import SHOP, commit, git, make_repo, write

pytestmark = pytest.mark.apart


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


def used(spare: Spare[int, int], model: ModelFiles, owner: str = "shop") -> int:
    with spare.lent(model, owner) as found:
        (pid,) = found.run([0], SilentProgress())
        return pid


def test_the_process_that_waits_is_the_one_that_works_and_stays_its_owners(
    spare: Spare[int, int], model: ModelFiles
) -> None:
    spare.renew(model, "shop")
    spare.renew(model, "shop")
    (pid,) = waiting()
    assert used(spare, model) == pid and used(spare, model) == pid
    spare.renew(model, "shop")  # its owner is the only one, and has it
    assert waiting() == [pid]


def test_no_process_works_for_two_owners(spare: Spare[int, int], model: ModelFiles) -> None:
    first = used(spare, model, "shop")
    spare.renew(model, "shop")
    spare.renew(model, "till")
    (second,) = {*waiting()} - {first}
    assert used(spare, model, "till") == second
    assert waiting() == [second]
    spare.renew(model, "till")
    (third,) = {*waiting()} - {second}
    assert used(spare, model, "shop") == third and used(spare, model, "shop") == third


def test_one_ends_with_the_error_of_its_owner(spare: Spare[int, int], model: ModelFiles) -> None:
    with pytest.raises(KeyboardInterrupt), spare.lent(model, "shop"):
        raise KeyboardInterrupt
    assert waiting() == []


def test_what_is_done_is_counted_from_none_each_time(spare: Spare[int, int], model: ModelFiles) -> None:
    for _ in range(2):
        with spare.lent(model, "shop") as found:
            found.run([0], SilentProgress())
            assert found._done.value == 1


@pytest.mark.parametrize("was_used", [False, True])
def test_one_that_was_killed_while_it_waited_is_not_given_away(
    spare: Spare[int, int], model: ModelFiles, was_used: bool
) -> None:
    def get_ready() -> list[int]:
        if was_used:
            used(spare, model)
        spare.renew(model, "shop")
        return waiting()

    killed = get_ready()
    _kill(killed)
    assert used(spare, model) not in killed
    killed = get_ready()
    _kill(killed)
    spare.renew(model, "shop")
    (pid,) = waiting()
    assert used(spare, model) == pid


@pytest.mark.parametrize("was_used", [False, True])
def test_one_that_loaded_another_model_is_not_given_away(
    spare: Spare[int, int], model: ModelFiles, was_used: bool
) -> None:
    spare.renew(model, "shop")
    before = [used(spare, model)] if was_used else waiting()
    other = ModelFiles(**{name: getattr(model, name) for name in model.__slots__} | {"name": "another"})
    assert [used(spare, other)] != before


def test_one_whose_thread_has_ended_is_replaced(spare: Spare[int, int], model: ModelFiles) -> None:
    """The kernel ends it then: it takes a thread for the parent."""

    def renew() -> None:
        spare.renew(model, "shop")
        assert spare._waiting is not None
        spare._waiting.run([0], SilentProgress())  # it is ready then

    thread = threading.Thread(target=renew)
    thread.start()
    thread.join()
    (first,) = waiting()
    until(lambda: not is_running(first))
    spare.renew(model, "shop")
    assert used(spare, model) != first


def test_a_machine_that_has_no_room_for_one_goes_without(
    spare: Spare[int, int], model: ModelFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(processes, "Processes", refuse)
    spare.renew(model, "shop")
    with pytest.raises(BlockingIOError):
        used(spare, model)


def test_a_process_that_dies_at_work_breaks_its_group_and_no_other(spare: Spare[int, int], model: ModelFiles) -> None:
    spare.renew(model, "shop")
    (pid,) = waiting()
    with Processes(death, model) as dying, pytest.raises(BrokenProcessPool):
        dying.run([0], SilentProgress())
    assert used(spare, model) == pid


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


class Watched(SpareBuilder):
    """Knows whose process worked for whom."""

    def __init__(self) -> None:
        super().__init__(build_segment)
        self.pids: dict[str, set[int]] = {}

    @contextmanager
    def lent(self, model: ModelFiles, owner: str) -> Iterator[Processes[Job, list[Outcome]]]:
        with super().lent(model, owner) as found:
            self.pids.setdefault(owner, set()).update(p.pid or 0 for p in found._processes)
            yield found


def test_each_push_is_parsed_by_the_same_process_beside_this_one(site: Site) -> None:
    with closing(Watched()) as spare:
        followed = Followed(RepositoryConfig(source=site.url), Settings(data_dir=str(site.data.root)), spare)
        assert followed.refresh(SilentProgress())
        with following(followed):
            for name in ("a.py", "b.py"):
                pushed(site, name)
                assert followed.failure is None
        assert [*spare.pids.values()] == [{*waiting()}] and len(waiting()) == 1


def test_what_is_saved_is_parsed_beside_this_process_as_well(tmp_path: Path) -> None:
    """It was parsed in the watcher's own: ten kilobytes ended it, for all of its repositories."""
    shop, till = make_repo(tmp_path / "shop", SHOP), make_repo(tmp_path / "till", SHOP)
    data = DataDir(tmp_path / "data")

    def generation(repo: Path) -> Path | None:
        return current(data.index(repo_id(str(repo))))

    with closing(Watched()) as spare, ExitStack() as both:
        for repo in (shop, till):
            followed = Followed(RepositoryConfig(source=str(repo)), Settings(data_dir=str(data.root)), spare)
            assert followed.refresh(SilentProgress())
            both.enter_context(following(followed))
        for number in range(2):
            for repo in (shop, till):
                before = generation(repo)
                write(repo, {f"saved_{number}.py": "def saved(x):\n    return x\n"})
                until(lambda repo=repo, before=before: generation(repo) != before)  # type: ignore[misc]
        ours, theirs = spare.pids.values()
        assert ours and theirs and not ours & theirs and os.getpid() not in ours | theirs


def test_a_push_that_takes_too_long_ends_its_process(site: Site) -> None:
    settings = Settings(data_dir=str(site.data.root))
    with closing(SpareBuilder(build_segment)) as spare:
        assert Followed(RepositoryConfig(source=site.url), settings, spare).refresh(SilentProgress())
        assert len(waiting()) == 1
        site.push("a.py")
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
