"""Repositories over ssh: git's own transport, with a program for ssh that stays on this machine."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from homespun_core.errors import RepositoryError
from homespun_core.paths import DataDir
from homespun_indexer.reader import IndexReader
from tests.indexer.answers import texts_of
from tests.indexer.conftest import Indexer
from tests.repos import SHOP, commit, git, make_repo

_SSH = """#!/bin/sh
echo "$*" >> {log}
while [ $# -gt 2 ]; do shift; done
case $1 in -*) echo "the host is an option" >&2; exit 255 ;; esac
exec sh -c "$2"
"""
"""Options, a host and a command, as the real one."""


@pytest.fixture
def ssh(tmp_path: Path) -> Path:
    """The program. What it is called with stands in `log` beside it."""
    program = tmp_path / "bin" / "ssh"
    program.parent.mkdir()
    program.write_text(_SSH.format(log=program.with_name("log")), encoding="utf-8")
    program.chmod(0o755)
    return program


@pytest.fixture
def first_on_path(ssh: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PATH", f"{ssh.parent}:{os.environ['PATH']}")
    return ssh.with_name("log")


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """A working tree; `origin` is a bare repository beside it."""
    work_tree = make_repo(tmp_path / "shop", SHOP)
    git(tmp_path, "clone", "--quiet", "--bare", str(work_tree), "shop.git")
    git(work_tree, "remote", "add", "origin", str(tmp_path / "shop.git"))
    return work_tree


@pytest.mark.parametrize(
    ("url", "asked"),
    [
        ("ssh://git@git.example.com:2222{path}", "-p 2222 git@git.example.com git-upload-pack '{path}'"),
        ("git@git.example.com:{path}", "git@git.example.com git-upload-pack '{path}'"),
    ],
    ids=["ssh://", "as scp"],
)
def test_a_repository_is_cloned_fetched_and_indexed(
    shop: Path, first_on_path: Path, indexer: Indexer, url: str, asked: str
) -> None:
    bare = shop.with_name("shop.git")
    url, asked = url.format(path=bare), asked.format(path=bare)
    first = indexer.open(url)
    assert (first.branch, first.work_tree, first.head) == ("main", None, git(bare, "rev-parse", "main"))
    assert "discounted_price" in texts_of(indexer.index(url))
    head = commit(shop, {"shop/new.py": "def fetched_price(item):\n    return 0\n"}, day=1)
    git(shop, "push", "--quiet", "origin", "main")
    with IndexReader.open(indexer.index(url)) as reader:
        assert reader.manifest.sources["commit"] == head and reader.chunk_at("shop/new.py", 1) is not None
    calls = first_on_path.read_text(encoding="utf-8").splitlines()
    assert len(calls) == 6  # each time for the default branch, and to clone or fetch
    assert all(call.startswith("-oBatchMode=yes") and call.endswith(asked) for call in calls)


def test_another_ssh_may_be_named(shop: Path, ssh: Path, indexer: Indexer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_SSH_COMMAND", f"{ssh} -F none")
    assert indexer.open(f"ssh://git.example.com{shop}.git").head == git(shop, "rev-parse", "HEAD")
    assert ssh.with_name("log").read_text(encoding="utf-8").startswith("-F none ")


@pytest.mark.parametrize(
    "source", ["ssh://-oProxyCommand=x/shop.git", "ssh://-oProxyCommand=x@host/shop.git", "-oProxyCommand=x@host:shop"]
)
def test_ssh_is_never_given_a_host_that_is_an_option(
    first_on_path: Path, data: DataDir, indexer: Indexer, source: str
) -> None:
    with pytest.raises(RepositoryError):
        indexer.open(source)
    assert not first_on_path.exists() and not data.root.exists()
