import os
from pathlib import Path

import pytest

from homespun_lsp.ignored import ignored_by


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    write(tmp_path / ".git" / "info" / "exclude", "scratch/\n")
    write(tmp_path / ".gitignore", "*.log\nbuild/\n")
    write(tmp_path / "src" / ".gitignore", "!kept.log\n/local.py\n")
    write(tmp_path / ".homespunignore", "legal/\n")
    return tmp_path


@pytest.mark.parametrize(
    ("path", "by"),
    [
        ("src/a.py", None),
        ("a.log", "git"),
        ("src/kept.log", None),
        ("src/local.py", "git"),
        ("local.py", None),
        ("build/x/y.py", "git"),
        ("scratch/a.py", "git"),
        ("legal/a.py", "homespun"),
    ],
)
def test_the_ignore_files_of_all_folders_above_count(repo: Path, path: str, by: str | None) -> None:
    assert ignored_by(repo / path, repo) == by


def test_what_is_no_plain_file_is_not_read(repo: Path) -> None:
    """A pipe in a repository that is only looked at would never end."""
    (repo / ".gitignore").unlink()
    os.mkfifo(repo / ".gitignore")
    (repo / ".homespunignore").unlink()
    (repo / ".homespunignore").symlink_to("/dev/zero")
    assert ignored_by(repo / "a.log", repo) is None
