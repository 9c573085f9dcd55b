import os
import subprocess
import sys
from pathlib import Path

import pytest

from homespun_lsp.repository import Repositories, find


def git(directory: Path, *words: str) -> None:
    identity = ("-c", "user.name=a", "-c", "user.email=a@b", "-c", "protocol.file.allow=always")
    subprocess.run(["git", *identity, *words], cwd=directory, check=True, capture_output=True)


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    root = tmp_path / "project"
    root.mkdir()
    git(root, "init", "--quiet")
    git(root, "remote", "add", "upstream", "https://example.com/other.git")
    git(root, "remote", "add", "origin", "git@example.com:team/project.git")
    return root


def test_a_file_belongs_to_the_repository_around_it(clone: Path) -> None:
    (clone / "src" / "deep").mkdir(parents=True)
    found = Repositories().of(clone / "src" / "deep" / "a.py")
    assert found and (found.root, found.name) == (clone, "git@example.com:team/project.git")


def test_without_a_remote_the_directory_gives_the_name(tmp_path: Path) -> None:
    (tmp_path / "alone").mkdir()
    git(tmp_path / "alone", "init", "--quiet")
    found = find(tmp_path / "alone")
    assert found and found.name == "alone"


@pytest.mark.parametrize(
    "url",
    [
        "https://me:s3cret@example.com/t/p.git",
        "https://me:s3c@ret@example.com/t/p.git",
        "ssh://git@example.com/t/p.git",
    ],
)
def test_user_and_password_never_leave_the_machine(clone: Path, url: str) -> None:
    git(clone, "remote", "set-url", "origin", url)
    found = find(clone)
    assert found and found.name == f"{url.partition('://')[0]}://example.com/t/p.git"


def test_a_worktree_has_its_own_root_and_the_remote_of_the_clone(clone: Path, tmp_path: Path) -> None:
    git(clone, "commit", "--quiet", "--allow-empty", "-m", "first")
    git(clone, "worktree", "add", "--quiet", str(tmp_path / "tree"))
    found = find(tmp_path / "tree")
    assert found and (found.root, found.name) == (tmp_path / "tree", "git@example.com:team/project.git")


def test_a_submodule_is_a_repository_of_its_own(clone: Path, tmp_path: Path) -> None:
    library = tmp_path / "library"
    library.mkdir()
    git(library, "init", "--quiet")
    git(library, "commit", "--quiet", "--allow-empty", "-m", "first")
    git(clone, "submodule", "--quiet", "add", str(library), "vendor")
    found = find(clone / "vendor")
    assert found and (found.root, found.name) == (clone / "vendor", str(library))


def test_outside_of_any_repository_there_is_none(tmp_path: Path) -> None:
    assert find(tmp_path / "not" / "there") is None


def test_a_pipe_in_place_of_git_is_none(tmp_path: Path) -> None:
    """Opening it would wait for a writer for ever; in a process of its own, so that this can fail."""
    os.mkfifo(tmp_path / ".git")
    code = f"from pathlib import Path; from homespun_lsp.repository import find; print(find(Path({str(tmp_path)!r})))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=20)
    assert done.stdout == "None\n"


def test_a_pointer_to_nowhere_is_harmless(tmp_path: Path) -> None:
    (tmp_path / ".git").write_text("gitdir: a\0b\n")
    found = find(tmp_path)
    assert found and found.name == tmp_path.name


def test_another_remote_is_noticed_after_a_while(clone: Path) -> None:
    now = 0.0
    repositories = Repositories(clock=lambda: now)
    assert repositories.of(clone / "a.py")
    git(clone, "remote", "set-url", "origin", "https://example.com/new.git")
    now = 11.0
    found = repositories.of(clone / "a.py")
    assert found and found.name == "https://example.com/new.git"
