"""Hosts that are away, fall silent, rewrite history or tell nobody of a push: rows 18, 19, 20 and 24."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from homespun_core import storage
from homespun_core.config import Settings
from homespun_core.errors import RepositoryError
from homespun_core.paths import DataDir, repo_id
from homespun_core.repositories import RepositoryConfig
from homespun_core.types import SearchQuery, SilentProgress
from homespun_indexer.cli import BaseModel, Followed, Indexed, index_once
from homespun_indexer.reader import IndexReader
from homespun_indexer.snapshot import FORMAT, KIND
from tests.e2e.command import HOMESPUN
from tests.faults.git_host import Host, hosting, processes_that_name
from tests.repos import SHOP, commit, git, make_repo

_WITHDRAWN = "def withdrawn_function(account):\n    return account.withdraw_everything(all_of=account)\n"


class Site:
    """A work tree, what of it is pushed to a host, and an installation that reads it there."""

    def __init__(self, root: Path, host: Host) -> None:
        self.host, self.work_tree, self._bare = host, root / "work", host.root / "shop.git"
        self.settings = Settings(data_dir=str(root / "data"), git_timeout_s=20)
        self.data = DataDir(root / "data")
        self.url = host.url("shop.git")
        self.model = BaseModel.load(self.settings)
        make_repo(self.work_tree, SHOP)
        git(host.root, "clone", "--quiet", "--bare", str(self.work_tree), str(self._bare))

    def push(self, *files: tuple[str, str | bytes]) -> str:
        head = commit(self.work_tree, dict(files))
        git(self.work_tree, "push", "--quiet", "--force", str(self._bare), "main")
        return head

    def index(self, timeout_s: int = 20) -> Indexed:
        settings = replace(self.settings, git_timeout_s=timeout_s)
        return index_once(RepositoryConfig(source=self.url), settings, SilentProgress(), model=self.model)

    @property
    def leftovers(self) -> list[Path]:
        """Locks and halves of packs, in the clone or beside it."""
        found = (self.data.root / "repos").rglob("*")
        return [path for path in found if path.suffix in (".lock", ".temp") or "tmp" in path.name]


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    (tmp_path / "host").mkdir()
    with hosting(tmp_path / "host") as host:
        yield Site(tmp_path, host)


def test_while_its_host_is_away_what_was_fetched_before_is_indexed(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    """Row 18, with a port that is closed. How old an index is stands in `homespun_index_age_seconds`."""
    before = site.index()
    pushed = site.push(("new.py", "new_value = 1\n"))
    there, site.url = site.url, "http://127.0.0.1:1/shop.git"  # the same repository, whatever the port
    assert site.index().path == before.path
    assert "Failed to connect" in caplog.text and "going on with what was fetched before" in caplog.text
    site.url = there
    assert site.index().repo.head == pushed


def test_a_host_that_falls_silent_in_a_clone_is_left_at_the_deadline_with_all_of_its_traces(site: Site) -> None:
    site.push(("large.bin", os.urandom(400_000)))
    site.host.stalls_after = 100_000
    with pytest.raises(RepositoryError, match=r"can't be read \(no answer within 2 s\)"):
        site.index(timeout_s=2)
    assert not list((site.data.root / "repos").iterdir())
    assert not processes_that_name(site.host.port)
    site.host.stalls_after = None
    assert site.index().manifest.info["files"] == 4


def test_a_host_that_falls_silent_in_a_fetch_costs_what_is_new_and_locks_nothing(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    before = site.index()
    pushed = site.push(("large.bin", os.urandom(400_000)), ("new.py", "new_value = 1\n"))
    site.host.stalls_after = 100_000
    assert site.index(timeout_s=2).path == before.path
    assert "no answer within 2 s" in caplog.text
    assert not site.leftovers and not processes_that_name(site.host.port)
    site.host.stalls_after = None
    assert site.index().repo.head == pushed


@pytest.mark.parametrize("words", [("index",), ("index", "--watch")], ids=["once", "watching"])
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_git_ends_with_whoever_began_a_clone_that_hangs(
    site: Site, tmp_path: Path, how: signal.Signals, words: Sequence[str]
) -> None:
    """A watcher left it running at Ctrl-C, and SIGTERM or kill -9 did so everywhere; its helpers don't end with git."""
    site.push(("large.bin", os.urandom(400_000)))
    site.host.stalls_after = 100_000
    _ended_by(how, [*words, site.url], "fetch-pack", tmp_path)
    assert how is signal.SIGKILL or not list((site.data.root / "repos").iterdir())
    site.host.stalls_after = None
    assert site.index().manifest.info["files"] == 4


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_an_ssh_that_hangs_and_will_not_end_is_killed(
    tmp_path: Path, how: signal.Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    ssh = tmp_path / "ssh"
    ssh.write_text("#!/bin/sh\ntrap '' TERM\nwhile :; do sleep 0.1; done\n")
    ssh.chmod(0o755)
    monkeypatch.setenv("GIT_SSH_COMMAND", str(ssh))
    _ended_by(how, ["index", "--watch", "ssh://git.example/shop.git"], str(ssh), tmp_path)


def _ended_by(how: signal.Signals, words: Sequence[str], last: str, root: Path) -> None:
    """Run a verb until `last` stands in a process below it, end it, and see all of them gone."""
    command = [*HOMESPUN, *words, f"--data-dir={root / 'data'}"]
    with subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        until(lambda: any(last in _words(pid) for pid in descendants(process.pid)))
        below = descendants(process.pid)
        process.send_signal(how)
        process.communicate(timeout=30)
    assert len(below) > 2
    until(lambda: not any(map(_words, below)))


def descendants(parent: int) -> list[int]:
    found = []
    for task in Path(f"/proc/{parent}/task").glob("*/children"):
        with suppress(OSError):
            for child in map(int, task.read_text().split()):
                found += [child, *descendants(child)]
    return found


def _words(pid: int) -> str:
    """Nothing when it has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return ""


def until(claim: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 40
    while not claim():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_what_was_forced_away_or_deleted_at_the_host_is_found_no_more(site: Site) -> None:
    """Row 20."""
    first = git(site.work_tree, "rev-parse", "HEAD")
    site.push(("mistake.py", _WITHDRAWN))
    assert "withdraw_everything" in found(site.index())
    git(site.work_tree, "reset", "--quiet", "--hard", first)
    rewritten = site.push(("better.py", "def better_function(account):\n    return account.total()\n"))
    after = site.index()
    assert after.repo.head == rewritten and "withdraw_everything" not in found(after)
    git(site.host.root / "shop.git", "branch", "--move", "main", "trunk")
    git(site.host.root / "shop.git", "symbolic-ref", "HEAD", "refs/heads/trunk")
    renamed = site.index()
    assert renamed.repo.branch == "trunk" and "better_function" in found(renamed)


def found(indexed: Indexed) -> str:
    with IndexReader.open(indexed.path) as reader:
        query = SearchQuery(prefix="x = withdrawn_function(", suffix="", path="a.py", language="python")
        return "\n".join(snippet.text for snippet in reader.search(query, 5))


def test_a_push_that_nobody_tells_of_is_found_by_looking(site: Site) -> None:
    """Row 24: no hook is called."""
    settings = replace(site.settings, fetch_minutes=0.01)
    followed, stop = Followed(RepositoryConfig(source=site.url), settings), threading.Event()
    assert followed.refresh(SilentProgress())
    follower = threading.Thread(target=followed.follow, args=[stop])
    follower.start()
    try:
        pushed = site.push(("new.py", "new_value = 1\n"))
        deadline = time.monotonic() + 60
        while indexed_commit(site) != pushed and time.monotonic() < deadline:
            time.sleep(0.05)
    finally:
        stop.set()
        follower.join()
    assert indexed_commit(site) == pushed


def indexed_commit(site: Site) -> str:
    current = storage.current(site.data.index(repo_id(site.url)))
    assert current is not None
    return storage.read_manifest(current, KIND, FORMAT).sources["commit"]
