"""Clones are packed by git, and nobody who reads them notices."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from homespun_core.paths import DataDir
from homespun_core.repositories import RepositoryConfig
from homespun_core.types import SilentProgress
from homespun_indexer import git as git_
from homespun_indexer import packing
from homespun_indexer.git import Git, GitFailed
from homespun_indexer.packing import is_due
from homespun_indexer.repository import Repository, open_repository
from homespun_indexer.tree import BlobReader
from tests.faults.git_host import hosting
from tests.repos import commit, git, make_repo


class Site:
    """A repository at a host, and a clone of it that is fetched."""

    def __init__(self, root: Path, url: str) -> None:
        self.work_tree, self._bare, self._url = root / "work", root / "host" / "shop.git", url
        make_repo(self.work_tree, {"a.py": "x = 0\n"})
        git(root, "clone", "--quiet", "--bare", str(self.work_tree), str(self._bare))
        self._data = DataDir(root / "data")

    def push(self, content: bytes) -> str:
        head = commit(self.work_tree, {"a.py": content})
        git(self.work_tree, "push", "--quiet", "--force", str(self._bare), "main")
        return head

    def fetched(self, max_mb: int = 100) -> Repository:
        config = RepositoryConfig(source=self._url, max_clone_mb=max_mb)
        return open_repository(config, self._data, timeout_s=60, progress=SilentProgress())


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    (tmp_path / "host").mkdir()
    with hosting(tmp_path / "host") as host:
        yield Site(tmp_path, host.url("shop.git"))


@pytest.fixture
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten objects are many, or four packs, and nothing is waited for."""
    monkeypatch.setattr(packing, "_MAX_LOOSE", 10)
    monkeypatch.setattr(packing, "_MAX_PACKS", 4)
    monkeypatch.setattr(packing, "_PAUSE_S", 0.0)


def counts(repo: Repository) -> dict[str, int]:
    lines = git(repo.git_dir, "count-objects", "-v").splitlines()
    return {name: int(count) for name, count in (line.split(": ") for line in lines)}


@pytest.mark.parametrize(("loose", "packs", "due"), [(5_000, 50, False), (5_001, 1, True), (0, 51, True)])
def test_packing_is_due_where_there_are_many_files(loose: int, packs: int, due: bool) -> None:
    assert is_due(loose, packs) is due


def test_many_small_fetches_leave_few_files(site: Site, eager: None) -> None:
    """Each left a pack over http, and three loose objects over ssh."""
    repo, heads = site.fetched(), []
    for number in range(8):
        heads.append(site.push(b"x = 1%d\n" % number))
        repo = site.fetched()
        found = counts(repo)
        assert found["count"] <= 10 and found["packs"] <= 4
    assert found["in-pack"] + found["count"] == 27
    with BlobReader(repo) as blobs:
        assert [blobs.find(f"{head}:a.py") for head in heads] == [b"x = 1%d\n" % number for number in range(8)]


def test_readers_that_have_the_clone_open_go_on_while_it_is_packed(
    site: Site, eager: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was forced away under them included, for a day."""
    first = site.push(b"forced_away = 1\n")
    repo = site.fetched()
    monkeypatch.setattr(packing, "_MAX_PACKS", 0)
    with BlobReader(repo) as blobs:
        assert blobs.find("HEAD:a.py") == b"forced_away = 1\n"
        git(site.work_tree, "reset", "--quiet", "--hard", "HEAD~1")
        second = site.push(b"x = 2\n")
        for _ in range(2):
            assert site.fetched().head == second
        assert counts(repo)["packs"] in (1, 2)  # newer gits have one for what nothing leads to
        assert blobs.find(f"{first}:a.py") == b"forced_away = 1\n"
        assert blobs.find(f"{second}:a.py") == b"x = 2\n"


def test_what_was_forced_away_makes_room(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """At its limit a clone was fetched no more, whatever it was full of."""
    monkeypatch.setattr(git_, "_LOOK_S", 60.0)  # what becomes too large is noticed at the next fetch
    site.push(os.urandom(1_200_000))
    site.fetched(max_mb=2)
    git(site.work_tree, "reset", "--quiet", "--hard", "HEAD~1")
    for content in (b"x = 1\n", os.urandom(1_200_000)):
        before = site.push(content)
        assert site.fetched(max_mb=2).head == before
    after = site.push(b"x = 2\n")
    assert site.fetched(max_mb=2).head == before  # it is kept for a day
    monkeypatch.setattr(packing, "_GRACE", "now")
    assert site.fetched(max_mb=2).head == before  # it was tried a moment ago
    monkeypatch.setattr(packing, "_PAUSE_S", 0.0)
    assert site.fetched(max_mb=2).head == after


def test_packing_that_fails_costs_nothing_and_is_not_tried_at_every_fetch(
    site: Site, eager: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(packing, "_PAUSE_S", 1_000.0)
    monkeypatch.setattr(packing, "_MAX_PACKS", 0)
    transfer, tried = Git.transfer, list[Sequence[str]]()
    repo = site.fetched()

    def fails(self: Git, *words: str, **limits: Any) -> bytes:
        if "gc" not in words:
            return transfer(self, *words, **limits)
        tried.append(words)
        (repo.git_dir / "objects" / "pack" / ".tmp-1-pack-x.pack").write_bytes(b"x")
        raise GitFailed("no room")

    monkeypatch.setattr(Git, "transfer", fails)
    for number in range(3):
        head = site.push(b"x = %d\n" % number)
        assert site.fetched().head == head
    assert len(tried) == 1 and "can't be packed (no room); trying again later" in caplog.text
    assert not [*(repo.git_dir / "objects").rglob(".tmp-*")]
    os.utime(repo.git_dir / packing._STAMP, (2**33, 2**33))
    site.fetched()
    assert len(tried) == 2, "a clock that was ahead once doesn't end packing"
