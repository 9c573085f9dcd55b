import os
import subprocess
from pathlib import Path

import pytest

from homespun_lsp.ignored import ignored_by


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.fixture(autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What the tester's own git ignores is no part of a test."""
    folder = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("HOME", str(folder))
    for name in ("XDG_CONFIG_HOME", "GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    return folder


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


def git(root: Path, *words: str) -> int:
    identity = ("-c", "user.name=a", "-c", "user.email=a@b")
    return subprocess.run(["git", *identity, *words], cwd=root, check=False, capture_output=True).returncode


CONFIGURATIONS = {
    "nothing is configured": (),
    "the user names a file": ("~/.gitconfig", "[core]\n\texcludesFile = ~/mine # of all\n"),
    "in quotes": ("~/.gitconfig", '[CORE]\n\tExcludesfile="~/mi""ne"\n'),
    "the default elsewhere": ("~/.config/git/config", "[core] excludesfile = ~/mine\n"),
    "by another file": ("~/.gitconfig", "[include]\n\tpath = more\n"),
    "the repository names none": (".git/config", "[core]\n\texcludesFile =\n"),
}


@pytest.mark.parametrize("configuration", CONFIGURATIONS.values(), ids=CONFIGURATIONS)
def test_the_users_own_patterns_count_as_git_says(home: Path, tmp_path: Path, configuration: tuple[str, ...]) -> None:
    git(tmp_path, "init", "-q")
    write(home / ".config" / "git" / "ignore", "*.default\n")
    write(home / "mine", "*.mine\n")
    write(home / "more", "[core]\nexcludesfile = ~/mine\n")
    if configuration:
        name, text = configuration
        file = home / name[2:] if name.startswith("~/") else tmp_path / name
        write(file, (file.read_text() if file.exists() else "") + text)
    write(tmp_path / ".gitignore", "!kept.mine\n")
    for path in ("a.default", "a.mine", "kept.mine", "src/a.mine", "a.py"):
        is_ignored = git(tmp_path, "check-ignore", "-q", path) == 0
        assert (ignored_by(tmp_path / path, tmp_path) == "git") == is_ignored, path


def test_a_worktree_follows_what_the_main_repository_excludes(tmp_path: Path) -> None:
    main, tree = tmp_path / "main", tmp_path / "tree"
    main.mkdir()
    git(main, "init", "-q")
    git(main, "commit", "-q", "--allow-empty", "-m", "first")
    git(main, "worktree", "add", "-q", str(tree))
    write(main / ".git" / "info" / "exclude", "scratch/\n")
    assert git(tree, "check-ignore", "-q", "scratch/a.py") == 0
    assert ignored_by(tree / "scratch" / "a.py", tree) == "git"
