"""What can be opened, what is refused, and that nothing a repository says is obeyed."""

from __future__ import annotations

import functools
import http.server
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from homespun_core.config import Settings
from homespun_core.errors import RepositoryError
from homespun_core.paths import DataDir, repo_id, repo_identity
from homespun_core.types import SilentProgress
from homespun_indexer.corpus import build_corpus
from homespun_indexer.files import source_files
from homespun_indexer.git import Git, GitFailed
from homespun_indexer.repository import Repository, hide_credentials, open_repository, remote_urls
from tests.repos import commit, git, make_repo


def opened(source: str | Path, data: DataDir, branch: str = "") -> Repository:
    return open_repository(str(source), data, branch=branch, timeout_s=20, progress=SilentProgress())


def test_a_local_repository_is_read_in_place(tmp_path: Path, data: DataDir) -> None:
    path = make_repo(tmp_path / "shop", {"a.py": "x = 1\n"})
    repo = opened(path, data)
    assert (repo.name, repo.branch, repo.work_tree) == ("shop", "main", path)
    assert repo.head == git(path, "rev-parse", "HEAD")
    assert repo.id == repo_id(str(path))
    assert not data.root.exists()


def test_a_folder_inside_opens_the_whole_repository(tmp_path: Path, data: DataDir) -> None:
    path = make_repo(tmp_path / "shop", {"deep/er/a.py": "x = 1\n"})
    assert opened(path / "deep" / "er", data) == opened(path, data)


def test_bare_repositories_have_no_work_tree(tmp_path: Path, data: DataDir) -> None:
    path = make_repo(tmp_path / "shop", {"a.py": "x = 1\n"})
    git(tmp_path, "clone", "--quiet", "--bare", str(path), "bare.git")
    repo = opened(tmp_path / "bare.git", data)
    assert repo.work_tree is None
    assert repo.head == opened(path, data).head


def test_a_linked_worktree_is_read_where_it_is(tmp_path: Path, data: DataDir) -> None:
    path = make_repo(tmp_path / "shop", {"a.py": "x = 1\n"})
    git(path, "worktree", "add", "--quiet", "-b", "feature", str(tmp_path / "feature"))
    repo = opened(tmp_path / "feature", data)
    assert (repo.branch, repo.work_tree) == ("feature", tmp_path / "feature")


def test_another_branch_is_read_without_the_work_tree(tmp_path: Path, data: DataDir) -> None:
    path = make_repo(tmp_path / "shop", {"a.py": "x = 1\n"})
    first = git(path, "rev-parse", "HEAD")
    git(path, "switch", "--quiet", "--create", "feature")
    commit(path, {"a.py": "x = 2\n"})
    repo = opened(path, data, branch="main")
    assert (repo.head, repo.work_tree) == (first, None)


def test_a_detached_head_is_fine(tmp_path: Path, data: DataDir) -> None:
    path = make_repo(tmp_path / "shop", {"a.py": "x = 1\n"})
    git(path, "switch", "--quiet", "--detach")
    assert opened(path, data).work_tree == path


def test_a_repository_of_somebody_else_is_read_when_it_is_named(tmp_path: Path, data: DataDir) -> None:
    path = make_repo(tmp_path / "shop", {"a.py": "x = 1\n"})
    if os.geteuid() != 0:
        pytest.skip("only root can give files away")
    for place in (path, path / ".git"):
        os.chown(place, 12345, 12345)
    assert opened(path, data).head


def test_what_is_no_repository_is_refused(tmp_path: Path, data: DataDir) -> None:
    with pytest.raises(RepositoryError, match="not a git repository"):
        opened(tmp_path, data)
    with pytest.raises(RepositoryError, match="no such directory"):
        opened(tmp_path / "nowhere", data)


def test_a_repository_without_commits_is_refused(tmp_path: Path, data: DataDir) -> None:
    with pytest.raises(RepositoryError, match="no commits yet"):
        opened(make_repo(tmp_path / "empty"), data)


@pytest.mark.parametrize("branch", ["nope", "--output=/tmp/x", "../../etc/passwd", "a b"])
def test_an_unknown_branch_is_refused(tmp_path: Path, data: DataDir, branch: str) -> None:
    path = make_repo(tmp_path / "shop", {"a.py": "x = 1\n"})
    with pytest.raises(RepositoryError, match="has no branch"):
        opened(path, data, branch=branch)


@pytest.mark.parametrize(
    "source",
    [
        "",
        "ext::touch {canary}",
        "--upload-pack=touch {canary}",
        "-u touch {canary}",
        "file:///etc",
        "file://{folder}",
        "http://example.com/a/b",
        "git://example.com/a/b",
        "fd::17/foo",
        "ftp://example.com/a/b",
        "https://",
        "ssh://-oProxyCommand=touch {canary}/x",
        "git@-oProxyCommand=touch:x",
        "https://example.com/a\n--upload-pack=x",
    ],
)
def test_sources_that_could_run_something_are_refused(tmp_path: Path, data: DataDir, source: str) -> None:
    canary = tmp_path / "canary"
    make_repo(tmp_path / "shop", {"a.py": "x = 1\n"})
    with pytest.raises(RepositoryError) as caught:
        opened(source.format(canary=canary, folder=tmp_path / "shop"), data)
    assert "\n" not in str(caught.value)
    assert not canary.exists()


@pytest.mark.parametrize("url", ["ext::touch {canary}", "file://{folder}", "{folder}"])
def test_git_itself_refuses_other_transports_as_well(tmp_path: Path, url: str) -> None:
    make_repo(tmp_path / "shop", {"a.py": "x = 1\n"})
    address = url.format(canary=tmp_path / "canary", folder=tmp_path / "shop")
    with pytest.raises(GitFailed):
        Git(protocols=("https", "ssh")).text("clone", "--bare", "--", address, str(tmp_path / "out"))
    assert not (tmp_path / "canary").exists()


def test_an_unreachable_url_names_no_credentials(data: DataDir) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(RepositoryError, match="can't be read") as caught:
        opened(f"http://ada:hunter2@127.0.0.1:{port}/shop.git", data)
    assert "hunter2" not in str(caught.value)
    assert "\n" not in str(caught.value)
    assert hide_credentials("https://a:b@c/d and ssh://u@h/p") == "https://c/d and ssh://h/p"


HOSTILE = """
[core]
    fsmonitor = touch {canary}
    sshCommand = touch {canary}
    pager = touch {canary}
    editor = touch {canary}
    hooksPath = {hooks}
    attributesFile = {attributes}
[diff]
    external = touch {canary}
[diff "evil"]
    textconv = touch {canary}
    command = touch {canary}
[filter "evil"]
    clean = touch {canary}
    smudge = touch {canary}
    process = touch {canary}
[gpg]
    program = touch {canary}
[log]
    showSignature = true
[credential]
    helper = !touch {canary}
[alias]
    log = !touch {canary}
    ls-files = !touch {canary}
[uploadpack]
    packObjectsHook = touch {canary}
[include]
    path = {hooks}/included
"""


def test_nothing_that_a_repository_configures_is_run(tmp_path: Path, data: DataDir) -> None:

    lines = "".join(f"value_{i} = compute({i})\n" for i in range(40))
    path = make_repo(tmp_path / "evil", {"a.py": lines, ".gitattributes": "*.py diff=evil filter=evil\n"})
    commit(path, {"a.py": lines.replace("compute", "calculate")}, day=1)
    canary, hooks = tmp_path / "canary", tmp_path / "hooks"
    hooks.mkdir()
    for name in ("post-index-change", "reference-transaction", "pre-auto-gc", "post-checkout"):
        (hooks / name).write_text(f"#!/bin/sh\ntouch {canary}\n")
        (hooks / name).chmod(0o755)
        (path / ".git" / "hooks").mkdir(exist_ok=True)
        (path / ".git" / "hooks" / name).write_text(f"#!/bin/sh\ntouch {canary}\n")
        (path / ".git" / "hooks" / name).chmod(0o755)
    with (path / ".git" / "config").open("a") as config:
        config.write(HOSTILE.format(canary=canary, hooks=hooks, attributes=tmp_path / "attributes"))
    (path / "a.py").write_text(lines + "changed = 1\n")
    repo = opened(path, data)
    assert any("changed" in file.text for file in source_files(repo, settings=Settings()))
    build_corpus(repo, settings=Settings(), data=data, progress=SilentProgress())
    remote_urls(repo)
    assert not canary.exists()


@pytest.mark.parametrize("url", ["ext::touch {canary}", "{origin}"])
def test_a_partial_clone_fetches_nothing(tmp_path: Path, data: DataDir, url: str) -> None:
    """Git would fetch a missing object by itself, with a program that the repository names."""
    canary = tmp_path / "canary"
    path = make_repo(tmp_path / "evil", {"a.py": "x = 1\n", "b.py": "y = 1\n"})
    blob = git(path, "rev-parse", "HEAD:b.py")
    (path / ".git" / "objects" / blob[:2] / blob[2:]).unlink()
    for name, value in {
        "core.repositoryFormatVersion": "1",
        "extensions.partialClone": "origin",
        "remote.origin.promisor": "true",
        "remote.origin.url": url.format(canary=canary, origin=tmp_path / "evil"),
        "remote.origin.uploadpack": f"touch {canary}; git-upload-pack",
        "protocol.ext.allow": "always",
        "protocol.file.allow": "always",
    }.items():
        git(path, "config", name, value)
    repo = opened(path, data)
    assert [f.path for f in source_files(repo, settings=Settings(), commit=repo.head)] == ["a.py"]
    assert not canary.exists()


def test_reading_does_not_write_into_the_repository(tmp_path: Path, data: DataDir) -> None:

    path = make_repo(tmp_path / "shop", {"a.py": "x = 1\n"})
    (path / "a.py").write_text("x = 2\n")
    before = {p: p.stat().st_mtime_ns for p in sorted(path.rglob("*"))}
    list(source_files(opened(path, data), settings=Settings()))
    assert {p: p.stat().st_mtime_ns for p in sorted(path.rglob("*"))} == before


def test_remotes_are_listed_without_credentials(tmp_path: Path, data: DataDir) -> None:
    path = make_repo(tmp_path / "shop", {"a.py": "x = 1\n"})
    git(path, "remote", "add", "origin", "https://ada:hunter2@example.com/shop.git")
    git(path, "remote", "add", "backup", "git@example.com:team/shop.git")
    git(path, "remote", "add", "local", "/somewhere/else")
    assert remote_urls(opened(path, data)) == ["git@example.com:team/shop.git", "https://example.com/shop.git"]


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """A repository to commit to, and the URL at which its published state can be cloned (git's dumb http protocol)."""
    root = tmp_path / "served"
    origin = make_repo(tmp_path / "origin", {"a.py": "x = 1\n"})
    git(tmp_path, "clone", "--quiet", "--bare", str(origin), str(root / "shop.git"))
    git(root / "shop.git", "update-server-info")
    handler = functools.partial(_Quiet, directory=str(root))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield origin, f"http://127.0.0.1:{server.server_address[1]}/shop.git"
        server.shutdown()
        thread.join()


def _publish(origin: Path, tmp_path: Path) -> None:
    bare = tmp_path / "served" / "shop.git"
    git(bare, "fetch", "--quiet", str(origin), "+refs/heads/*:refs/heads/*")
    git(bare, "repack", "-adq")
    git(bare, "update-server-info")


def test_a_url_is_cloned_once_and_fetched_after_that(tmp_path: Path, data: DataDir, served: tuple[Path, str]) -> None:
    origin, url = served
    git(origin, "tag", "v1")
    git(origin, "branch", "other")
    _publish(origin, tmp_path)
    repo = opened(url, data)
    assert repo.git_dir == data.clone(repo_id(url))
    assert repo.head == git(origin, "rev-parse", "HEAD")
    assert repo.work_tree is None
    assert git(repo.git_dir, "for-each-ref", "--format=%(refname)") == "refs/heads/main"
    newer = commit(origin, {"a.py": "x = 2\n"}, day=1)
    _publish(origin, tmp_path)
    assert opened(url, data).head == newer


def test_a_branch_of_a_url_is_cloned_alone(tmp_path: Path, data: DataDir, served: tuple[Path, str]) -> None:
    origin, url = served
    git(origin, "switch", "--quiet", "--create", "feature")
    tip = commit(origin, {"b.py": "y = 1\n"}, day=1)
    _publish(origin, tmp_path)
    repo = opened(url, data, branch="feature")
    assert (repo.head, repo.branch) == (tip, "feature")
    with pytest.raises(RepositoryError, match="has no branch 'nope'"):
        opened(url, data, branch="nope")


def test_a_clone_keeps_no_credentials(tmp_path: Path, data: DataDir, served: tuple[Path, str]) -> None:
    repo = opened(served[1].replace("http://", "http://ada:hunter2@"), data)
    assert not any(b"hunter2" in f.read_bytes() for f in repo.git_dir.rglob("*") if f.is_file())


def test_a_failed_clone_leaves_nothing_behind(tmp_path: Path, data: DataDir, served: tuple[Path, str]) -> None:
    with pytest.raises(RepositoryError):
        opened(served[1].replace("shop", "missing"), data)
    assert not data.clone("x").parent.exists() or not list(data.clone("x").parent.iterdir())


def test_a_clone_is_read_while_its_host_is_down(
    data: DataDir, served: tuple[Path, str], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    url = served[1]
    before = opened(url, data)
    monkeypatch.setattr("homespun_indexer.repository._default_branch", _unreachable)
    assert opened(url, data) == before
    assert "can't be fetched (host is down); going on" in caplog.text
    monkeypatch.setattr("homespun_indexer.repository._fetch", _unreachable)
    assert opened(url, data, branch="main") == before
    with pytest.raises(RepositoryError, match="can't be read"):
        opened(url, data, branch="never-fetched")
    with pytest.raises(RepositoryError, match="can't be read"):
        opened(url.replace("shop", "other"), data)


def _unreachable(*_: object) -> str:
    raise GitFailed("host is down")


def test_a_branch_deleted_at_the_host_is_not_read_from_the_clone(
    tmp_path: Path, data: DataDir, served: tuple[Path, str]
) -> None:
    origin, url = served
    git(origin, "branch", "feature")
    _publish(origin, tmp_path)
    opened(url, data, branch="feature")
    git(tmp_path / "served" / "shop.git", "branch", "-D", "feature")
    git(tmp_path / "served" / "shop.git", "update-server-info")
    with pytest.raises(RepositoryError, match="has no branch 'feature'"):
        opened(url, data, branch="feature")


@pytest.mark.parametrize("password", ["p@ss", "@", "a@b@c", "p:@x"])
def test_a_password_with_an_at_sign_leaks_nowhere(password: str) -> None:
    url = f"https://ada:{password}@git.example.com:8443/team/shop.git"
    assert hide_credentials(f"fatal: {url}: no") == "fatal: https://git.example.com:8443/team/shop.git: no"
    assert repo_identity(url) == "git.example.com/team/shop"


def test_files_that_the_configuration_names_are_not_opened(tmp_path: Path, data: DataDir) -> None:
    """A named pipe would be waited for."""
    path = make_repo(tmp_path / "evil", {"a.py": "x = 1\n"})
    os.mkfifo(tmp_path / "pipe")
    for name in ("diff.orderFile", "mailmap.file", "core.excludesFile", "core.attributesFile"):
        git(path, "config", name, str(tmp_path / "pipe"))
    git(path, "config", "log.mailmap", "true")
    reader = opened(path, data).git
    assert "a/a.py" in reader.text("log", "--patch", "--format=%aN", timeout_s=10)
    assert reader.text("ls-files", "--others", "--exclude-standard", timeout_s=10) == ""


def test_a_command_that_takes_too_long_is_ended(tmp_path: Path, data: DataDir) -> None:
    repo = opened(make_repo(tmp_path / "shop", {"a.py": "x = 1\n"}), data)
    with (
        pytest.raises(GitFailed, match=r"`git cat-file` wasn't done within 0.2 s"),
        repo.git.running("cat-file", "--batch", timeout_s=0.2) as process,
    ):
        assert process.stdout is not None
        assert process.stdout.read() == b""


def test_an_error_of_git_passes_through_context_managers() -> None:
    @contextmanager
    def block() -> Iterator[None]:
        yield

    with pytest.raises(GitFailed, match="why") as caught, block():
        raise GitFailed("why")
    assert caught.value.reason == "why"
