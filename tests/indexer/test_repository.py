"""What can be opened, what is refused, and that nothing a repository says is obeyed."""

from __future__ import annotations

import base64
import functools
import http.server
import os
import socket
import subprocess
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from homespun_core.config import Settings
from homespun_core.errors import RepositoryError
from homespun_core.paths import DataDir, hide_credentials, repo_id, repo_identity
from homespun_core.repositories import RepositoryConfig, SourceRules
from homespun_core.types import SilentProgress
from homespun_indexer.corpus import build_corpus
from homespun_indexer.files import source_files
from homespun_indexer.git import Cap, Git, GitFailed
from homespun_indexer.remote import Remote, _secrets
from homespun_indexer.repository import Repository, open_repository, remote_urls
from tests.repos import commit, git, make_repo


def opened(source: str | Path | RepositoryConfig, data: DataDir, branch: str = "") -> Repository:
    wanted = source if isinstance(source, RepositoryConfig) else str(source)
    return open_repository(wanted, data, branch=branch, timeout_s=20, progress=SilentProgress())


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
    git(path, "remote", "add", "odd", "https://ada:hun/ter2@example.com/shop.git")
    assert remote_urls(opened(path, data)) == ["git@example.com:team/shop.git", "https://example.com/shop.git"]


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


class _Guarded(_Quiet):
    """Answers the person with the token alone."""

    def do_GET(self) -> None:
        expected = f"Basic {base64.b64encode(LOGIN.encode()).decode()}"
        if self.headers["Authorization"] == expected:
            super().do_GET()
            return
        self.send_response(401)
        self.send_header("WWW-Authenticate", "Basic")
        self.end_headers()


TOKEN = "glpat-0123456789"
LOGIN = f"oauth2:{TOKEN}"


@contextmanager
def _serving(root: Path, handler: type[http.server.SimpleHTTPRequestHandler]) -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(handler, directory=str(root))) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """A repository to commit to, and the URL at which its published state can be cloned (git's dumb http protocol)."""
    root = tmp_path / "served"
    origin = make_repo(tmp_path / "origin", {"a.py": "x = 1\n"})
    git(tmp_path, "clone", "--quiet", "--bare", str(origin), str(root / "shop.git"))
    git(root / "shop.git", "update-server-info")
    with _serving(root, _Quiet) as host:
        yield origin, f"{host}/shop.git"


@pytest.fixture
def guarded(tmp_path: Path, served: tuple[Path, str]) -> Iterator[str]:
    """The URL of the same repository at a host that wants a token."""
    with _serving(tmp_path / "served", _Guarded) as host:
        yield f"{host}/shop.git"


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
    monkeypatch.setattr(Remote, "default_branch", _unreachable)
    assert opened(url, data) == before
    assert "can't be fetched (host is down); going on" in caplog.text
    monkeypatch.setattr(Remote, "fetch", _unreachable)
    assert opened(url, data, branch="main") == before
    with pytest.raises(RepositoryError, match="can't be read"):
        opened(url, data, branch="never-fetched")
    with pytest.raises(RepositoryError, match="can't be read"):
        opened(url.replace("shop", "other"), data)


def test_the_default_branch_is_read_while_its_host_is_down(
    tmp_path: Path, data: DataDir, served: tuple[Path, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A clone's HEAD is the branch that was asked for first: offline, the index went back to it."""
    origin, url = served
    git(origin, "branch", "dev")
    _publish(origin, tmp_path)
    opened(url, data, branch="dev")
    assert opened(url, data).branch == "main"
    opened(url, data, branch="dev")
    monkeypatch.setattr(Remote, "default_branch", _unreachable)
    assert opened(url, data).branch == "main"


@pytest.mark.parametrize(
    "url",
    ["https://[bad/s3cret", "https://user:s3/cret@host/x", "https://user:s3cr\u2100t@host/x", "https://h:s3cret/x"],
)
def test_a_url_that_cannot_be_read_reaches_neither_git_nor_the_log(
    data: DataDir, url: str, arguments: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    with pytest.raises(RepositoryError, match="must be percent-encoded") as caught:
        opened(url, data)
    assert not any(word in f"{caught.value} {caplog.text}" for word in ("s3", "cret", "user", "host"))
    assert arguments == []


def test_a_bare_repository_beside_a_work_tree_is_another(tmp_path: Path, data: DataDir) -> None:
    path = make_repo(tmp_path / "shop", {"a.py": "x = 1\n"})
    git(tmp_path, "clone", "--quiet", "--bare", str(path), "shop.git")
    inside, beside = opened(path, data), opened(tmp_path / "shop.git", data)
    assert inside.id != beside.id and inside.name == beside.name == "shop"
    assert opened(path / ".git", data).id == inside.id


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


@pytest.fixture
def token_file(tmp_path: Path) -> Path:
    path = tmp_path / "token"
    path.write_text(f"{TOKEN}\n")
    path.chmod(0o600)
    return path


@pytest.fixture
def arguments(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The words of every command that is run from here on."""
    words: list[str] = []
    started = Git._started

    def noted(self: Git, args: Sequence[str], group: int) -> subprocess.Popen[bytes]:
        words.extend(self._command(args))
        return started(self, args, group)

    monkeypatch.setattr(Git, "_started", noted)
    return words


def test_a_token_opens_a_private_repository_and_stays_secret(
    data: DataDir,
    guarded: str,
    token_file: Path,
    arguments: list[str],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("DEBUG")
    cloned = opened(RepositoryConfig(source=guarded, token_file=token_file), data)
    monkeypatch.setenv("SHOP_TOKEN", TOKEN)
    assert opened(RepositoryConfig(source=guarded, token_env="SHOP_TOKEN"), data) == cloned
    assert opened(guarded.replace("http://", f"http://{LOGIN}@"), data) == cloned
    assert "fetch" in arguments and "clone" in arguments
    encoded = base64.b64encode(LOGIN.encode()).decode()
    written = [f.read_text("latin-1") for f in data.root.rglob("*") if f.is_file()]
    for place in (*arguments, *written, caplog.text, repr(cloned)):
        assert TOKEN not in place and encoded not in place


def test_without_the_right_token_a_private_repository_stays_shut(
    data: DataDir, guarded: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHOP_TOKEN", "wrong-0123456789")
    for source in (RepositoryConfig(source=guarded), RepositoryConfig(source=guarded, token_env="SHOP_TOKEN")):
        with pytest.raises(RepositoryError, match=r"can't be read .* token") as caught:
            opened(source, data)
        assert "wrong-0123456789" not in str(caught.value)


def test_a_token_goes_to_its_own_host_only(tmp_path: Path, data: DataDir, guarded: str, token_file: Path) -> None:
    """A header for every host would be sent along a redirection, or to another host that git is told to ask."""
    remote = RepositoryConfig(source=guarded, token_file=token_file)
    ((name, _),) = _secrets(guarded, remote)
    assert name == f"http.{guarded.removesuffix('shop.git')}.extraHeader"


def test_what_git_says_is_scrubbed() -> None:
    encoded = base64.b64encode(LOGIN.encode()).decode()
    git = Git(secrets=(("http.https://h/.extraHeader", f"Authorization: Basic {encoded}"),))
    with pytest.raises(GitFailed) as caught:
        git.text("rev-parse", "--verify", f"--{encoded}")
    assert encoded not in str(caught.value)
    assert encoded not in repr(git)


@pytest.mark.parametrize(
    ("mode", "content", "message"),
    [
        (0o640, TOKEN, "others can read this token; run `chmod 600 "),
        (0o600, "\n", "holds no token; put the token of"),
        (0o600, "two words", "holds no token"),
        (None, "", "the token can't be read (No such file or directory); check token_file"),
    ],
)
def test_an_unusable_token_file_is_refused(
    tmp_path: Path, data: DataDir, mode: int | None, content: str, message: str
) -> None:
    path = tmp_path / "token"
    if mode is not None:
        path.write_text(content)
        path.chmod(mode)
    with pytest.raises(RepositoryError) as caught:
        opened(RepositoryConfig(source="https://git.example.com/a", token_file=path), data)
    assert str(path) in str(caught.value) and message in str(caught.value)


def test_a_token_that_would_not_be_used_is_refused(data: DataDir, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOP_TOKEN", TOKEN)
    with pytest.raises(RepositoryError, match="a token is for https URLs"):
        opened(RepositoryConfig(source="ssh://git.example.com/a", token_env="SHOP_TOKEN"), data)
    monkeypatch.delenv("SHOP_TOKEN")
    with pytest.raises(RepositoryError, match="environment variable SHOP_TOKEN: holds no token"):
        opened(RepositoryConfig(source="https://git.example.com/a", token_env="SHOP_TOKEN"), data)


def test_a_password_in_an_ssh_address_is_dropped(data: DataDir, arguments: list[str]) -> None:
    with pytest.raises(RepositoryError, match="can't be read") as caught:
        opened("ssh://ada:hunter2@127.0.0.1:1/shop.git", data)
    assert "hunter2" not in f"{arguments} {caught.value}"
    assert "ssh://ada@127.0.0.1:1/shop.git" in arguments


def test_a_configured_repository_is_what_its_table_says(tmp_path: Path, data: DataDir) -> None:
    path = make_repo(tmp_path / "shop", {"a.py": "x = 1\n"})
    git(path, "branch", "develop")
    rules = SourceRules(languages=("python",), exclude=("old/",))
    config = RepositoryConfig(source=str(path), name="till", branch="develop", groups=("staff",), rules=rules)
    repo = opened(config, data, branch="main")
    assert (repo.name, repo.branch, repo.groups, repo.rules) == ("till", "develop", ("staff",), rules)
    assert repo.id == opened(path, data).id


def test_a_clone_stops_growing_at_its_limit(tmp_path: Path, data: DataDir, served: tuple[Path, str]) -> None:
    origin, url = served
    small = RepositoryConfig(source=url, max_clone_mb=1)
    before = opened(small, data)
    commit(origin, {"big.bin": os.urandom(3_000_000)}, day=1)
    _publish(origin, tmp_path)
    with pytest.raises(RepositoryError, match="larger than 1 MB; raise max_clone_mb"):
        opened(small, DataDir(tmp_path / "other"))
    assert list(DataDir(tmp_path / "other").clone("x").parent.iterdir()) == []
    (before.git_dir / "objects" / "filler").write_bytes(bytes(1_100_000))
    assert opened(small, data).head == before.head


def test_a_transfer_is_ended_while_it_grows(tmp_path: Path) -> None:
    """Ours is a command that writes for ever, as a hostile host can make git do."""
    (tmp_path / "out").mkdir()
    script = f"while :; do head -c 100000 /dev/zero >> {tmp_path / 'out' / 'pack'}; sleep 0.01; done"
    endless = Git(secrets=(("alias.endless", f"!{script}"),))
    with pytest.raises(GitFailed, match="larger than 2 MB"):
        endless.transfer("endless", timeout_s=60, look=Cap(tmp_path / "out", 2).check)
    size = (tmp_path / "out" / "pack").stat().st_size
    threading.Event().wait(0.3)
    assert (tmp_path / "out" / "pack").stat().st_size == size


def test_what_a_failed_fetch_left_is_removed(
    data: DataDir, served: tuple[Path, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    repo = opened(served[1], data)
    pack = repo.git_dir / "objects" / "pack"
    pack.mkdir(exist_ok=True)

    transfer = Git.transfer

    def killed(self: Git, *words: str, **limits: Any) -> bytes:
        if words[0] != "fetch":
            return transfer(self, *words, **limits)
        (pack / "tmp_pack_x").write_bytes(b"x")
        (repo.git_dir / "objects" / "tmp_objdir-incoming-x").mkdir()
        raise GitFailed("killed")

    monkeypatch.setattr(Git, "transfer", killed)
    assert opened(served[1], data).head == repo.head
    assert not [*(repo.git_dir / "objects").rglob("tmp_*")]


def test_without_fetching_what_was_fetched_before_is_read(
    tmp_path: Path, data: DataDir, served: tuple[Path, str]
) -> None:
    """And a repository that never was is cloned all the same: there is nothing else to read."""
    origin, url = served

    def unfetched() -> Repository:
        return open_repository(url, data, timeout_s=60, is_fetched=False, progress=SilentProgress())

    first = unfetched()
    newer = commit(origin, {"a.py": "x = 2\n"}, day=1)
    _publish(origin, tmp_path)
    assert unfetched() == first and first.head != newer
    assert opened(url, data).head == newer
    assert unfetched().head == newer
