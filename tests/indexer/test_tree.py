"""What a process remembers of a working tree never hides a change."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from homespun_indexer import tree, worktree
from homespun_indexer.tree import Entry, TreeMemory, list_entries
from tests.indexer.conftest import Indexer
from tests.repos import commit, git, make_repo, write

FILES = {"a.py": "a = 1\n", "b.py": "b = 1\n", "sub/c.py": "c = 1\n"}
LONG_AGO = 1_600_000_000


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    return make_repo(tmp_path / "r", FILES)


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The paths that were read."""
    seen: list[str] = []
    read_file = worktree.read_file

    def counted(root: Path, path: str, max_bytes: int) -> worktree.Read | None:
        seen.append(path)
        return read_file(root, path, max_bytes)

    monkeypatch.setattr(worktree, "read_file", counted)
    return seen


@pytest.fixture
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is on disk counts as written long ago."""
    monkeypatch.setattr(tree, "_SAME_TIME_NS", -(10**18))


Look = Callable[[], dict[str, Entry]]


@pytest.fixture
def look(repo: Path, indexer: Indexer) -> Look:
    memory = TreeMemory()

    def look() -> dict[str, Entry]:
        opened = indexer.open(repo)
        found = list_entries(opened, None, max_bytes=1_000, memory=memory)
        assert found == list_entries(opened, None, max_bytes=1_000, memory=TreeMemory())
        return {entry.path: entry for entry in found}

    return look


@pytest.fixture
def remembering(repo: Path, indexer: Indexer) -> Look:
    """As `look`, without the comparison, which reads everything."""
    memory = TreeMemory()
    return lambda: {e.path: e for e in list_entries(indexer.open(repo), None, max_bytes=1_000, memory=memory)}


def test_unchanged_files_are_not_read_again(repo: Path, remembering: Look, read: list[str], settled: None) -> None:
    first = remembering()
    assert sorted(read) == sorted(FILES)
    read.clear()
    assert remembering() == first
    assert read == []
    write(repo, {"b.py": "b = 2\n", "new.py": "new = 1\n"})
    assert remembering()["b.py"].content == b"b = 2\n"
    assert sorted(read) == ["b.py", "new.py"]
    read.clear()
    assert remembering()["new.py"].content == b"new = 1\n"
    assert read == []


def test_a_file_that_was_just_written_is_read_again(repo: Path, remembering: Look, read: list[str]) -> None:
    remembering()
    read.clear()
    remembering()
    assert sorted(read) == sorted(FILES)


def test_a_change_within_the_granularity_of_the_clock_is_seen(
    repo: Path, look: Look, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second write leaves size and times as they were."""
    state = worktree.state
    coarse = 3_600_000_000_000

    def rounded(root: Path, path: str) -> tuple[int, ...] | None:
        found = state(root, path)
        return found and (*found[:-2], *(t // coarse * coarse for t in found[-2:]))

    monkeypatch.setattr(tree, "_SAME_TIME_NS", coarse)
    monkeypatch.setattr(worktree, "state", rounded)
    for i in range(3):
        write(repo, {"a.py": f"a = {i}\n"})
        assert (look()["a.py"].content or b"a = 1\n") == f"a = {i}\n".encode()


@pytest.mark.parametrize("change", ["size", "modification time", "other file", "mode"])
def test_every_trace_of_a_change_counts(
    repo: Path, remembering: Look, read: list[str], settled: None, change: str
) -> None:
    remembering()
    read.clear()
    file = repo / "a.py"
    if change == "size":
        times = file.stat()
        file.write_text("a = 10\n")
        os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
    elif change == "modification time":
        os.utime(file, (LONG_AGO, LONG_AGO))
    elif change == "other file":
        (repo / "other").write_text("a = 2\n")
        (repo / "other").replace(file)
    else:
        file.chmod(0o600)
    remembering()
    assert read == ["a.py"]


def test_what_was_saved_is_as_committed_once_it_is(repo: Path, look: Look, settled: None) -> None:
    """And so isn't kept in memory any more."""
    write(repo, {"a.py": "a = 2\n"})
    assert look()["a.py"].content == b"a = 2\n"
    commit(repo, {}, day=1)
    entry = look()["a.py"]
    assert entry.content is None and entry.blob == git(repo, "rev-parse", "HEAD:a.py")


def test_the_commit_may_move_under_files_that_stay_as_they_are(repo: Path, look: Look, settled: None) -> None:
    """Their bytes are in git no longer, or only now."""
    first = git(repo, "rev-parse", "HEAD")
    commit(repo, {"a.py": "a = 2\n", "d.py": "d = 1\n"}, day=1)
    assert all(entry.content is None for entry in look().values())
    git(repo, "reset", "--quiet", "--soft", first)
    found = look()
    assert (found["a.py"].content, found["d.py"].content) == (b"a = 2\n", b"d = 1\n")
    assert found["b.py"].content is None
    commit(repo, {}, day=2)
    assert all(entry.content is None for entry in look().values())


def test_a_checkout_of_another_commit_is_seen_whole(repo: Path, look: Look, settled: None) -> None:
    commit(repo, {"a.py": "a = 2\n", "d.py": "d = 1\n"}, day=1)
    look()
    git(repo, "checkout", "--quiet", "HEAD~1")
    found = look()
    assert sorted(found) == sorted(FILES)
    assert all(entry.content is None for entry in found.values())
    assert found["a.py"].blob == git(repo, "rev-parse", "HEAD:a.py")


def test_deleted_files_are_gone_and_come_back(repo: Path, look: Look, settled: None) -> None:
    look()
    (repo / "a.py").unlink()
    assert "a.py" not in look()
    write(repo, {"a.py": "a = 3\n"})
    assert look()["a.py"].content == b"a = 3\n"


def test_nothing_is_remembered_of_files_that_are_gone(repo: Path, indexer: Indexer, settled: None) -> None:
    memory, opened = TreeMemory(), indexer.open(repo)
    list_entries(opened, None, max_bytes=1_000, memory=memory)
    assert set(memory._seen) == set(FILES)
    (repo / "a.py").unlink()
    list_entries(opened, None, max_bytes=1_000, memory=memory)
    assert set(memory._seen) == set(FILES) - {"a.py"}


def test_a_file_that_became_too_large_or_a_link_is_seen(repo: Path, look: Look, settled: None) -> None:
    look()
    write(repo, {"a.py": "a = 1\n" * 500})
    entry = look()["a.py"]
    assert (entry.content, entry.size) == (None, 3_000)
    (repo / "a.py").unlink()
    (repo / "a.py").symlink_to(repo / "b.py")
    assert "a.py" not in look()


def test_a_given_commit_is_listed_whatever_the_working_tree_holds(repo: Path, indexer: Indexer) -> None:
    write(repo, {"a.py": "a = 2\n", "new.py": "new = 1\n"})
    memory = TreeMemory()
    opened = indexer.open(repo)
    for _ in range(2):
        found = list_entries(opened, opened.head, max_bytes=1_000, memory=memory)
        assert [entry.path for entry in found] == sorted(FILES)
        assert all(entry.content is None for entry in found)
    assert len(list_entries(opened, None, max_bytes=1_000, memory=memory)) == 4


@pytest.mark.parametrize("how", ["attributes", "settings"])
def test_line_ends_that_git_writes_into_working_trees_are_no_change(tmp_path: Path, indexer: Indexer, how: str) -> None:
    rules = {".gitattributes": "*.cs text eol=crlf\n"} if how == "attributes" else {}
    repo = make_repo(tmp_path / "r", {"a.cs": "class A\n{\n}\n", **rules})
    if how == "settings":
        git(repo, "config", "core.autocrlf", "true")
    (repo / "a.cs").unlink()
    git(repo, "checkout", "-q", "--", "a.cs")
    assert (repo / "a.cs").read_bytes() == b"class A\r\n{\r\n}\r\n"

    def saved() -> list[str]:
        listed = list_entries(indexer.open(repo), None, max_bytes=1_000, memory=TreeMemory())
        return [entry.path for entry in listed if entry.content is not None]

    assert saved() == []
    write(repo, {"a.cs": "class B\r\n{\r\n}\r\n"})
    assert saved() == ["a.cs"]
