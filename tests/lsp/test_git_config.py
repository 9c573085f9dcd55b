"""Against git itself."""

import subprocess
from pathlib import Path

import pytest

from homespun_lsp.git_config import parsed, user_files, value


@pytest.mark.parametrize(
    "text",
    [
        "[a]\n\tb = c\n",
        "[a] b = c\n",
        "[A]\nB = C ; comment\n",
        '[a]\nb = "c # d" e # f\n',
        '[a "S\\"x"]\nb = x\\\\y\\tz\n',
        "[a]\nb = one\\\n  two\n",
        "[a]\nb = \n",
        '[remote "origin"]\n\turl = https://example.com/a;b.git\n\tfetch = +refs/*:refs/x\n',
        "# [x]\n[a]\n;y = z\nb=c\nb =   d  \n",
        "[a]\r\nb = c\r\n",
    ],
)
def test_it_reads_what_git_reads(tmp_path: Path, text: str) -> None:
    file = tmp_path / "config"
    file.write_bytes(text.encode())
    done = subprocess.run(["git", "config", "-f", file, "--list", "-z"], capture_output=True, check=True)
    said = [tuple(entry.split("\n", 1)) for entry in done.stdout.decode().split("\0") if entry]
    assert list(parsed(text)) == said


def test_files_that_include_one_another_end(tmp_path: Path) -> None:
    for name, other in (("one", "two"), ("two", "one")):
        (tmp_path / name).write_text(f"[include]\npath = {other}\n" * 3 + f"[core]\nexcludesfile = {name}\n")
    assert value([tmp_path / "one"], "core.excludesfile") == "one"


def test_the_environment_says_where_they_are() -> None:
    environ = {"GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": "/x/y"}
    assert user_files(environ) == [Path("/x/y")]
    assert user_files({"XDG_CONFIG_HOME": "/x"})[:2] == [Path("/etc/gitconfig"), Path("/x/git/config")]
