"""Repositories nobody would wish for: what can't count is left out with its reason, and the rest is indexed."""

from __future__ import annotations

import argparse
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from homespun_core.config import Settings
from homespun_core.errors import RepositoryError
from homespun_core.paths import DataDir
from homespun_core.repositories import SourceRules
from homespun_core.storage import read_manifest
from homespun_core.types import SilentProgress
from homespun_indexer import filters
from homespun_indexer.cli import add_arguments, run
from homespun_indexer.files import source_files
from homespun_indexer.indexing import IndexMemory
from homespun_indexer.repository import open_repository
from homespun_indexer.snapshot import FORMAT, KIND
from tests.indexer.answers import texts_of
from tests.indexer.conftest import Indexer
from tests.repos import LFS_POINTER, commit, git, make_repo, write

CODE = "def total(items):\n    return sum(items)\n"
GOOD = {"good.py": CODE, "src/fine.py": CODE + "answer = total([1, 2, 39])\n"}


@dataclass(frozen=True, slots=True)
class Report:
    files: object
    skipped: object


def report(indexer: Indexer, path: Path) -> Report:
    """What the index of `path` says went in and what didn't."""
    info = read_manifest(indexer.index(path), KIND, FORMAT).info
    return Report(info["files"], info["skipped"])


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("bad.py", b"x = 1\0\1\2", filters.BINARY),
        ("bad.js", b"function a(){return 1};" * 200, filters.LONG_LINES),
        ("bad.py", b"x = '\xff\xfe'\n", filters.NOT_UTF8),
        ("bad.py", "x = 'zażółć'\n".encode("utf-16"), filters.BINARY),
        ("bad.sql", LFS_POINTER.encode(), filters.LFS_POINTER),
        ("bad.js", b"[" * 100_000 + b"]" * 100_000, filters.LONG_LINES),
    ],
    ids=["binary", "minified", "invalid UTF-8", "UTF-16", "LFS", "brackets in a line"],
)
def test_a_file_that_is_no_source_is_left_out(
    tmp_path: Path, indexer: Indexer, name: str, content: bytes, reason: str
) -> None:
    path = make_repo(tmp_path / "r", {**GOOD, name: content})
    assert report(indexer, path) == Report(2, {reason: 1})


def test_a_line_of_100_mb_is_left_out_without_being_read(tmp_path: Path, indexer: Indexer) -> None:
    path = make_repo(tmp_path / "r", GOOD)
    with (path / "huge.py").open("wb") as handle:
        handle.truncate(100_000_000)
    assert report(indexer, path) == Report(2, {filters.TOO_LARGE: 1})


@pytest.mark.parametrize(
    "content", ["a = 1\r\nb = 2\r\n", "a = 1\rb = 2\r", "a = 1\n\f\nb = 2\n", "a = 1\n\v\x1c\u2028\n"]
)
def test_odd_line_ends_are_indexed(tmp_path: Path, indexer: Indexer, content: str) -> None:
    path = make_repo(tmp_path / "r", GOOD | {"odd.py": content})
    assert report(indexer, path) == Report(3, {})
    odd = next(f for f in source_files(indexer.open(path), settings=Settings()) if f.path == "odd.py")
    assert "\r" not in odd.text


@pytest.mark.parametrize(
    ("name", "line"),
    [("deep.py", "f("), ("deep.js", "a=>{"), ("deep.c", "if(a){"), ("deep.rs", "fn a(){"), ("deep.ts", "{x:")],
)
def test_deep_nesting_does_not_bring_us_down(tmp_path: Path, indexer: Indexer, name: str, line: str) -> None:
    """tree-sitter's TypeScript overflowed its stack at the last of them: a segmentation fault, no exception."""
    path = make_repo(tmp_path / "r", {**GOOD, name: f"{line}\n" * 100_000})
    assert report(indexer, path) == Report(2, {filters.NESTED: 1})


def test_nesting_below_the_limit_is_indexed(tmp_path: Path, indexer: Indexer) -> None:
    lines = [f"{'f(' if i < 2_400 else ')'}" for i in range(4_800)]
    path = make_repo(tmp_path / "r", GOOD | {"deep.py": "x = " + "\n".join(lines) + "\n"})
    assert report(indexer, path) == Report(3, {})


def test_many_tiny_files_are_indexed(tmp_path: Path, indexer: Indexer) -> None:
    path = make_repo(
        tmp_path / "r",
        {f"m{i % 50}/f{i}.py": f"def total_of_prices(number={i}):\n    return number\n" for i in range(20_000)},
    )
    assert report(indexer, path) == Report(20_000, {})


def test_loops_of_symbolic_links_are_left_out(tmp_path: Path, indexer: Indexer) -> None:
    path = make_repo(tmp_path / "r", GOOD)
    (path / "a.py").symlink_to("b.py")
    (path / "b.py").symlink_to("a.py")
    (path / "src" / "up").symlink_to("..")
    commit(path, {})
    (path / "new.py").symlink_to("new.py")
    found = report(indexer, path)
    assert found.files == 2
    assert found.skipped == {filters.SYMLINK: 3}


def test_paths_that_differ_in_case_only_are_both_indexed(tmp_path: Path, indexer: Indexer) -> None:
    path = make_repo(tmp_path / "r", GOOD | {"Good.py": CODE + "b = 1\n", "SRC/fine.py": CODE + "c = 1\n"})
    assert report(indexer, path) == Report(4, {})


def crafted(path: Path, entries: Mapping[str, bytes]) -> None:
    """Commit a tree that git itself would refuse to make: names with slashes, dots, or nothing in them."""
    tree = b""
    for name, content in entries.items():
        blob = _object(path, "blob", content)
        tree += f"100644 {name}".encode() + b"\0" + bytes.fromhex(blob)
    made = git(path, "commit-tree", _object(path, "tree", tree), "-m", "Crafted")
    git(path, "update-ref", "refs/heads/main", made)


def _object(path: Path, kind: str, content: bytes) -> str:
    command = ["git", "hash-object", "-w", "-t", kind, "--literally", "--stdin"]
    return subprocess.run(command, cwd=path, input=content, capture_output=True, check=True).stdout.decode().strip()


@pytest.mark.parametrize(
    "name", ["../outside.py", "../../../../etc/cron.d/x.py", "/etc/x.py", ".git/hooks/a.py", ".GIT/x.py", "a/./b.py"]
)
def test_names_that_lead_out_of_the_repository_are_left_out(tmp_path: Path, indexer: Indexer, name: str) -> None:
    path = make_repo(tmp_path / "r")
    crafted(path, {name: b"evil = 1\n", "good.py": CODE.encode()})
    git(tmp_path, "clone", "--quiet", "--bare", "--no-local", str(path), "bare.git")
    before = {p for p in tmp_path.rglob("*") if not p.is_relative_to(indexer.data.root)}
    assert report(indexer, tmp_path / "bare.git") == Report(1, {filters.UNSAFE_PATH: 1})
    assert {p for p in tmp_path.rglob("*") if not p.is_relative_to(indexer.data.root)} == before


@pytest.mark.parametrize("bare", [False, True])
def test_a_repository_without_commits_is_refused(tmp_path: Path, indexer: Indexer, bare: bool) -> None:
    git(tmp_path, "init", "--quiet", *(["--bare"] if bare else []), "empty")
    with pytest.raises(RepositoryError, match="has no commits yet; commit something first"):
        indexer.index(tmp_path / "empty")


def test_an_unborn_branch_is_refused(tmp_path: Path, indexer: Indexer) -> None:
    """HEAD names a branch without commits, though there are others."""
    path = make_repo(tmp_path / "r", GOOD)
    git(path, "switch", "--quiet", "--orphan", "unborn")
    with pytest.raises(RepositoryError, match="has no commits yet"):
        indexer.index(path)
    assert len(source_files(indexer.open(path, branch="main"), settings=Settings())) == 2


def test_a_shallow_clone_is_indexed(tmp_path: Path, indexer: Indexer) -> None:
    path = make_repo(tmp_path / "r", GOOD)
    commit(path, {"new.py": CODE + "new = 1\n"}, day=1)
    git(tmp_path, "clone", "--quiet", "--depth=1", f"file://{path}", "shallow")
    assert (tmp_path / "shallow" / ".git" / "shallow").is_file()
    assert report(indexer, tmp_path / "shallow") == Report(3, {})


@pytest.mark.parametrize("keep", [0.0, 0.1, 0.5, 0.95])
def test_a_damaged_object_costs_its_file_only(
    tmp_path: Path, indexer: Indexer, caplog: pytest.LogCaptureFixture, keep: float
) -> None:
    """git ends at the first damaged object it meets; the files after it were lost with it."""
    broken = "".join(f"value_{i} = {i * i % 977}\n" for i in range(2_000))
    path = make_repo(tmp_path / "r", GOOD | {"broken.py": broken, "also.py": broken + "x = 1\n"})
    for name in ("broken.py", "also.py"):
        blob = git(path, "rev-parse", f"HEAD:{name}")
        loose = path / ".git" / "objects" / blob[:2] / blob[2:]
        loose.chmod(0o644)
        loose.write_bytes(loose.read_bytes()[: int(loose.stat().st_size * keep)])
    git(tmp_path, "init", "--quiet", "--bare", "bare.git")
    bare = tmp_path / "bare.git"
    (bare / "objects" / "info" / "alternates").write_text(f"{path / '.git' / 'objects'}\n")
    (bare / "refs" / "heads" / "main").write_text(git(path, "rev-parse", "HEAD") + "\n")
    (bare / "HEAD").write_text("ref: refs/heads/main\n")
    found = report(indexer, bare)
    assert found.files == 2
    assert found.skipped in ({filters.MISSING: 2}, {filters.DAMAGED: 2})


def bare(tmp_path: Path, path: Path) -> Path:
    """A clone in which every object is a file of its own."""
    git(tmp_path, "init", "--quiet", "--bare", "--initial-branch=main", "bare.git")
    push(path, tmp_path / "bare.git")
    return tmp_path / "bare.git"


def push(path: Path, to: Path) -> None:
    git(path, "push", "--quiet", "--force", str(to), "main")


def spoil(bare: Path, name: str, how: str = "cut") -> Callable[[], object]:
    """Damage an object of a bare repository. What is returned repairs it."""
    object_id = git(bare, "rev-parse", name)
    loose = bare / "objects" / object_id[:2] / object_id[2:]
    good = loose.read_bytes()
    loose.chmod(0o644)
    loose.write_bytes(good[:10]) if how == "cut" else loose.unlink()
    return lambda: loose.write_bytes(good)


DEEP = {"sub/b.py": CODE + "b = 1\n", "sub/deep/c.py": CODE + "c = 1\n", "sub/deep/er/d.py": CODE + "d = 1\n"}


@pytest.mark.parametrize("how", ["cut", "gone"])
@pytest.mark.parametrize(("tree", "files"), [("sub", 2), ("sub/deep", 3), ("sub/deep/er", 4)])
def test_a_damaged_tree_costs_its_folder_only(
    tmp_path: Path, indexer: Indexer, tree: str, files: int, how: str
) -> None:
    """git lists nothing at all then."""
    repo = bare(tmp_path, make_repo(tmp_path / "r", GOOD | DEEP))
    spoil(repo, f"HEAD:{tree}", how)
    assert report(indexer, repo) == Report(files, {filters.DAMAGED_FOLDER: 1})


def test_without_its_first_tree_a_commit_cannot_be_read(tmp_path: Path, indexer: Indexer) -> None:
    repo = bare(tmp_path, make_repo(tmp_path / "r", GOOD))
    spoil(repo, "HEAD:")
    with pytest.raises(RepositoryError, match=r"commit .* can't be read"):
        report(indexer, repo)


def test_a_damaged_tree_is_read_from_the_working_tree(tmp_path: Path, indexer: Indexer) -> None:
    path = make_repo(tmp_path / "r", GOOD | DEEP)
    spoil(path / ".git", "HEAD:sub")
    assert report(indexer, path) == Report(5, {})


def test_what_was_known_of_a_folder_stays_while_it_cannot_be_read(tmp_path: Path, indexer: Indexer) -> None:
    """It isn't deleted, as long as nobody says that it is to be left out; and what is new in it is found later."""
    path = make_repo(tmp_path / "r", GOOD | DEEP)
    repo, memory = bare(tmp_path, path), IndexMemory()
    assert "b = 1" in texts_of(indexer.index(repo, memory=memory))
    (path / "good.py").unlink()
    commit(path, {"sub/b.py": CODE + "b = 2\n", "src/fine.py": CODE + "fine = 2\n"}, day=1)
    push(path, repo)
    repair = spoil(repo, "HEAD:sub")
    for known in (memory, None):
        texts = texts_of(indexer.index(repo, memory=known))
        assert "b = 1" in texts and "d = 1" in texts and "fine = 2" in texts
        assert report(indexer, repo) == Report(4, {filters.DAMAGED_FOLDER: 1})
    rules = SourceRules(exclude=("sub/deep",))
    assert "d = 1" not in texts_of(indexer.index(replace(indexer.open(repo), rules=rules)))
    repair()
    texts = texts_of(indexer.index(repo, memory=memory))
    assert "b = 2" in texts and "d = 1" in texts and "b = 1" not in texts
    assert report(indexer, repo) == Report(4, {})


def test_a_folder_that_cannot_be_read_is_not_empty(tmp_path: Path, indexer: Indexer) -> None:
    path = make_repo(tmp_path / "r", DEEP)
    repo = bare(tmp_path, path)
    first = indexer.index(repo)
    spoil(repo, "HEAD:sub")
    assert "d = 1" in texts_of(indexer.index(repo))
    with pytest.raises(RepositoryError, match=r"\(3 excluded, 1 damaged folder\)"):
        indexer.index(replace(indexer.open(repo), rules=SourceRules(exclude=("*",))))
    assert first.exists() and "d = 1" in texts_of(indexer.index(repo))


def test_a_damaged_object_is_read_from_the_working_tree(tmp_path: Path, indexer: Indexer) -> None:
    path = make_repo(tmp_path / "r", GOOD)
    blob = git(path, "rev-parse", "HEAD:good.py")
    (path / ".git" / "objects" / blob[:2] / blob[2:]).unlink()
    write(path, {"good.py": CODE + "saved = 1\n"})
    assert report(indexer, path).files == 2


@pytest.fixture
def silent() -> Iterator[int]:
    """The port of a host that accepts and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        held: list[socket.socket] = []

        def hold() -> None:
            while True:
                try:
                    held.append(listening.accept()[0])
                except OSError:
                    return

        thread = threading.Thread(target=hold, daemon=True)
        thread.start()
        yield listening.getsockname()[1]
        listening.shutdown(socket.SHUT_RDWR)
        thread.join()
        for connection in held:
            connection.close()


@pytest.mark.parametrize("address", ["http://127.0.0.1:{port}/r.git", "ssh://git@127.0.0.1:{port}/r.git"])
def test_a_host_that_never_answers_is_given_up(data: DataDir, silent: int, address: str) -> None:
    """With its helpers: git's own end left the program that waits for the host behind."""
    url = address.format(port=silent)
    with pytest.raises(RepositoryError, match=r"can't be read \(no answer within 1 s\)"):
        open_repository(url, data, timeout_s=1, progress=SilentProgress())
    assert any(not _processes_that_name(silent) for _ in range(50) if not threading.Event().wait(0.05))


def test_a_host_that_never_answers_keeps_nobody_waiting(
    tmp_path: Path, silent: int, capsys: pytest.CaptureFixture[str]
) -> None:
    path = make_repo(tmp_path / "good", GOOD)
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    url = f"http://127.0.0.1:{silent}/hanging.git"
    words = [url, str(path), "--git-timeout-s=1", f"--data-dir={tmp_path / 'data'}"]
    assert run(parser.parse_args(words)) == 1
    captured = capsys.readouterr()
    assert "good: 2 files, " in captured.out
    (said,) = [line for line in captured.err.splitlines() if line.startswith("homespun: ")]
    assert said.startswith(f"homespun: {url}: can't be read (no answer within 1 s); check the address")


class _Moved(BaseHTTPRequestHandler):
    """As hosts answer an address without its `.git`."""

    def do_GET(self) -> None:
        self.send_response(301)
        self.send_header("Location", self.path.replace("/r/", "/r.git/"))
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


def test_a_host_that_sends_on_is_not_followed_and_the_remedy_says_so(data: DataDir) -> None:
    with HTTPServer(("127.0.0.1", 0), _Moved) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        url = f"http://127.0.0.1:{server.server_port}/r"
        with pytest.raises(
            RepositoryError, match=r"error: 301\); the host sends on to another address.* ends in \.git"
        ):
            open_repository(url, data, timeout_s=20, progress=SilentProgress())
        server.shutdown()
        thread.join()


def _processes_that_name(port: int) -> list[Path]:
    return [p for p in Path("/proc").glob("[0-9]*/cmdline") if str(port).encode() in _bytes(p)]


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:  # it has ended
        return b""
