from __future__ import annotations

import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from homespun_core.paths import DataDir
from homespun_indexer.people import author_hash, pasts, with_earlier, with_later_names
from tests.indexer.conftest import Indexer
from tests.repos import commit, commit_dated, git, make_repo, write

CODE = "def total(items):\n    return sum(item.price for item in items)\n" * 4


def by(path: Path, address: str, files: dict[str, str], message: str = "Change") -> None:
    write(path, files)
    git(path, "add", "--all")
    git(path, "commit", "--quiet", f"--author=Somebody <{address}>", "--message", message, when=1_800_000_000)


def test_everybody_who_changed_a_file_is_among_its_authors_across_renames(tmp_path: Path, indexer: Indexer) -> None:
    path = make_repo(tmp_path / "r", {"old.py": CODE, "other.py": "x = 1\n"})
    by(path, "Bob@Corp.io", {"old.py": CODE + "y = 2\n"})
    git(path, "mv", "old.py", "new.py")
    commit(path, {}, "Move", day=9)
    by(path, "eve@corp.io", {"new.py": CODE + "y = 3\n"}, "Edit\n\nCo-authored-by: Zoe <zoe@corp.io>")
    hashed = author_hash(indexer.data)
    repo = indexer.open(path)
    past = pasts(repo, repo.head, hashed)
    people = {"ada@example.com", "bob@corp.io", "eve@corp.io", "zoe@corp.io"}
    assert set(past["new.py"].authors) == {hashed(p) for p in people}
    assert past["other.py"].authors == (hashed("ada@example.com"),)
    assert past["other.py"].changed < past["new.py"].changed


def test_a_name_that_was_used_again_belongs_to_both_files_in_their_own_time(tmp_path: Path, indexer: Indexer) -> None:
    """The first one's authors were taken for the second one's, so that it stayed when they were to be forgotten."""
    path = make_repo(tmp_path / "r", {"old.py": CODE})
    git(path, "mv", "old.py", "first.py")
    by(path, "zoe@corp.io", {}, "Move")
    by(path, "bob@corp.io", {"old.py": "".join(f"value_{i} = {i}\n" for i in range(40))}, "Add another")
    git(path, "mv", "old.py", "second.py")
    by(path, "eve@corp.io", {}, "Move this one, too")
    hashed, repo = author_hash(indexer.data), indexer.open(path)
    past = pasts(repo, repo.head, hashed)
    assert set(past) == {"first.py", "second.py"}
    assert set(past["first.py"].authors) == {hashed("ada@example.com"), hashed("zoe@corp.io")}
    assert set(past["second.py"].authors) == {hashed("bob@corp.io"), hashed("eve@corp.io")}


def test_a_file_that_two_branches_renamed_keeps_its_authors_whichever_name_stays(
    tmp_path: Path, indexer: Indexer
) -> None:
    path = make_repo(tmp_path / "r", {"old.py": CODE})
    git(path, "checkout", "--quiet", "-b", "side")
    git(path, "mv", "old.py", "side.py")
    by(path, "bob@corp.io", {}, "Move")
    git(path, "checkout", "--quiet", "main")
    git(path, "mv", "old.py", "main.py")
    by(path, "eve@corp.io", {}, "Move elsewhere")
    hashed = author_hash(indexer.data)
    for kept, lost, mover in (("main", "side", "eve@corp.io"), ("side", "main", "bob@corp.io")):
        git(path, "checkout", "--quiet", "-B", "merged", kept)
        git(path, "merge", "--quiet", "--strategy=ours", "--message", "Merge", lost)
        repo = indexer.open(path, "merged")
        assert set(pasts(repo, repo.head, hashed)[f"{kept}.py"].authors) == {hashed("ada@example.com"), hashed(mover)}


def test_hundreds_of_files_of_one_name_keep_their_authors_when_they_are_moved(tmp_path: Path, indexer: Indexer) -> None:
    """With changed imports none is as it was, and git compares each with each, or beyond a limit none with any."""

    def package(name: str, i: int) -> str:
        return f"from {name}.base import Base\n" + "".join(f"value_{i}_{k} = compute_{i}({k})\n" for k in range(9))

    path = make_repo(tmp_path / "r", {f"src/m{i}/__init__.py": package("old", i) for i in range(410)})
    shutil.rmtree(path / "src")
    by(path, "bob@corp.io", {f"packages/k{i}/__init__.py": package("core", i) for i in range(410)}, "Move")
    hashed, repo = author_hash(indexer.data), indexer.open(path)
    past = pasts(repo, repo.head, hashed)
    both = {hashed("ada@example.com"), hashed("bob@corp.io")}
    assert all(set(past[f"packages/k{i}/__init__.py"].authors) == both for i in range(410))


def test_a_mailmap_gives_both_addresses(tmp_path: Path, indexer: Indexer) -> None:
    path = make_repo(tmp_path / "r", {"a.py": "x = 1\n", ".mailmap": "Ada <ada@new.io> <ada@example.com>\n"})
    hashed, repo = author_hash(indexer.data), indexer.open(path)
    assert set(pasts(repo, repo.head, hashed)["a.py"].authors) == {hashed("ada@new.io"), hashed("ada@example.com")}


def test_a_commit_without_a_readable_date_still_has_an_author(tmp_path: Path, indexer: Indexer) -> None:
    path = make_repo(tmp_path / "r", {"a.py": "x = 1\n"})
    commit_dated(path, {"b.py": "y = 1\n"}, "yesterday")
    hashed, repo = author_hash(indexer.data), indexer.open(path)
    past = pasts(repo, repo.head, hashed)["b.py"]
    assert past.authors == (hashed("ada@example.com"),) and past.changed == 0


def test_hashes_hold_in_one_data_directory_and_nowhere_else(tmp_path: Path) -> None:
    one, other = DataDir(tmp_path / "one"), DataDir(tmp_path / "other")
    assert author_hash(one)(" Ada@Example.com") == author_hash(one)("ada@example.com")
    assert author_hash(one)("ada@example.com") != author_hash(other)("ada@example.com")
    assert one.salt.stat().st_mode & 0o077 == 0


def test_threads_that_make_the_salt_at_once_agree(tmp_path: Path) -> None:
    threads = 8
    for attempt in range(50):
        data, together = DataDir(tmp_path / str(attempt)), threading.Barrier(threads)

        def hashes(data: DataDir = data, together: threading.Barrier = together) -> str:
            together.wait()
            return author_hash(data)("ada@example.com")

        with ThreadPoolExecutor(threads) as pool:
            assert len({made.result() for made in [pool.submit(hashes) for _ in range(threads)]}) == 1
        assert [path.name for path in data.root.iterdir()] == ["salt"]


def test_a_file_is_known_by_every_name_that_it_had_and_by_none_of_another(tmp_path: Path, indexer: Indexer) -> None:
    path = make_repo(tmp_path / "r", {"a.py": CODE, "other.py": "".join(f"value_{i} = {i}\n" for i in range(40))})
    git(path, "mv", "a.py", "b.py")
    cut = commit(path, {}, "Move")
    git(path, "mv", "b.py", "c.py")
    by(path, "bob@corp.io", {}, "Move again")
    by(path, "eve@corp.io", {"b.py": "".join(f"import module_{i}\n" for i in range(40))}, "Another of that name")
    hashed, repo = author_hash(indexer.data), indexer.open(path)
    past, later = pasts(repo, cut, hashed), pasts(repo, repo.head, hashed, since=cut)
    then = with_later_names(past, later)
    assert {p: then[p].names for p in ("b.py", "other.py")} == {"b.py": ("a.py", "c.py"), "other.py": ()}
    now = pasts(repo, repo.head, hashed)
    assert {p: now[p].names for p in ("b.py", "c.py", "other.py")} == {
        "b.py": (),
        "c.py": ("a.py", "b.py"),
        "other.py": (),
    }
    whole = with_earlier(later, past, "c.py")
    assert whole.names == now["c.py"].names
    assert set(whole.authors) == set(now["c.py"].authors) == {hashed("ada@example.com"), hashed("bob@corp.io")}
