import subprocess
from pathlib import Path

import pytest

from homespun_lsp.head import commit_of


def git(repo: Path, *arguments: str) -> str:
    identity = ("-c", "user.name=a", "-c", "user.email=a@example.com", "-c", "commit.gpgsign=false")
    done = subprocess.run(["git", "-C", repo, *identity, *arguments], capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    git(tmp_path, "init", "-q", "-b", "main")
    return tmp_path


def commit(repo: Path) -> str:
    git(repo, "commit", "-q", "--allow-empty", "-m", "x")
    return git(repo, "rev-parse", "HEAD")


def test_it_is_what_git_says(repo: Path, tmp_path: Path) -> None:
    assert commit_of(repo) is None, "there is no commit yet"
    first = commit(repo)
    assert commit_of(repo) == first
    git(repo, "pack-refs", "--all")
    assert commit_of(repo) == first
    second = commit(repo)
    assert commit_of(repo) == second
    git(repo, "worktree", "add", "-q", "-b", "other", "tree", first)
    assert commit_of(repo / "tree") == first
    git(repo, "checkout", "-q", "--detach", first)
    assert commit_of(repo) == first


@pytest.mark.parametrize("head", ["ref: refs/../../../etc/passwd", "ref: /etc/passwd", "x" * 40, ""])
def test_a_head_that_leads_elsewhere_is_not_followed(repo: Path, head: str) -> None:
    commit(repo)
    (repo / ".git" / "HEAD").write_text(head)
    assert commit_of(repo) is None
