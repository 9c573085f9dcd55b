"""Whatever is wrong with what the user gave: one clear line, no traceback, nothing lost."""

from __future__ import annotations

import shlex
import socket
import subprocess
from pathlib import Path

import pytest

from tests.e2e.command import HOMESPUN, homespun
from tests.e2e.company import make_company

pytestmark = pytest.mark.e2e

HOMESPUN_SHELL = shlex.join(HOMESPUN)


def one_line(done: subprocess.CompletedProcess[str]) -> str:
    """What was said about the failure: the last line, with nothing of a traceback anywhere."""
    said = done.stderr + done.stdout
    assert done.returncode == 1, said
    assert "Traceback" not in said
    errors = [line for line in said.splitlines() if line.startswith("homespun: ")]
    assert len(errors) == 1, said
    return errors[0]


@pytest.fixture
def empty_repository(tmp_path: Path) -> Path:
    subprocess.run(["git", "init", "-q", str(tmp_path / "empty")], check=True)
    return tmp_path / "empty"


def test_not_a_git_repository(tmp_path: Path) -> None:
    (tmp_path / "plain").mkdir()
    said = one_line(homespun("index", str(tmp_path / "plain"), cwd=tmp_path))
    assert "plain" in said and "not a git repository" in said


def test_a_path_that_does_not_exist(tmp_path: Path) -> None:
    assert "nowhere" in one_line(homespun("index", str(tmp_path / "nowhere"), cwd=tmp_path))


def test_an_empty_repository(tmp_path: Path, empty_repository: Path) -> None:
    said = one_line(homespun("index", str(empty_repository), cwd=tmp_path))
    assert "no commits" in said


def test_a_repository_without_source_files(tmp_path: Path, empty_repository: Path) -> None:
    (empty_repository / "notes.txt").write_text("hello\n")
    author = ["-c", "user.name=a", "-c", "user.email=a@example.com"]
    subprocess.run(["git", "add", "-A"], cwd=empty_repository, check=True)
    subprocess.run(["git", *author, "commit", "-qm", "notes"], cwd=empty_repository, check=True)
    assert "no source files" in one_line(homespun("index", str(empty_repository), cwd=tmp_path))


@pytest.mark.parametrize(
    "url", ["https://127.0.0.1:1/team/app.git", "ext::sh -c true", "--upload-pack=true", "ftp://host/app"]
)
def test_an_unreadable_or_forbidden_url(tmp_path: Path, url: str) -> None:
    said = one_line(homespun("index", "--", url, cwd=tmp_path))
    assert "app" in said or "ext::" in said or "--upload-pack" in said


def test_a_model_directory_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    said = one_line(homespun("serve", "--port=0", "--base-model", str(tmp_path / "model"), cwd=tmp_path))
    assert "model" in said and "config.json" in said


def test_a_port_in_use(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        repo = make_company(tmp_path / "company")
        for words in (["serve"], ["up", str(repo)]):
            said = one_line(homespun(*words, f"--port={port}", f"--data-dir={tmp_path / 'data'}", cwd=tmp_path))
            assert str(port) in said and "--port" in said


def test_a_broken_settings_file(tmp_path: Path) -> None:
    (tmp_path / "homespun.toml").write_text("port = 8080\nprot = 1\n")
    assert "did you mean 'port'?" in one_line(homespun("serve", cwd=tmp_path))


def test_another_address_without_a_token_is_refused(tmp_path: Path) -> None:
    said = one_line(homespun("serve", "--host=0.0.0.0", "--port=0", cwd=tmp_path))
    assert "api_token" in said or "HOMESPUN_API_TOKEN" in said


def test_a_full_disk_is_said_and_what_was_built_stays(tmp_path: Path) -> None:
    """On a small file system of its own: the index of one repository fits, the next does not."""
    small, large = make_company(tmp_path / "small"), tmp_path / "large"
    large.mkdir()
    subprocess.run(["git", "init", "-q"], cwd=large, check=True)
    for i in range(300):
        (large / f"m{i}.py").write_text("".join(f"value_{i}_{j} = compute_{j}({i})\n" for j in range(200)))
    author = ["-c", "user.name=a", "-c", "user.email=a@example.com"]
    subprocess.run(["git", "add", "-A"], cwd=large, check=True)
    subprocess.run(["git", *author, "commit", "-qm", "much"], cwd=large, check=True)
    (tmp_path / "disk").mkdir()
    script = f"""
        mount -t tmpfs -o size=6m tmpfs disk || exit 77
        {HOMESPUN_SHELL} index small --data-dir=disk 2>&1 || exit 1
        {HOMESPUN_SHELL} index large --data-dir=disk 2>&1; echo "status $?"
        {HOMESPUN_SHELL} index small --data-dir=disk 2>&1; echo "status $?"
        ls disk/index
    """
    done = subprocess.run(
        ["unshare", "-rm", "sh", "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    if done.returncode == 77 or "unshare failed" in done.stderr:
        pytest.skip("no user namespaces here, so no file system of a test's own")
    assert "the disk is full" in done.stdout and "Traceback" not in done.stdout, done.stdout
    assert "status 1" in done.stdout and "status 0" in done.stdout
    assert small.name in done.stdout.splitlines()[-1]
