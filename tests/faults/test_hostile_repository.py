"""A repository that was made to do harm, all at once: row 21. Each kind alone: tests/indexer/test_bad_input.py."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from homespun_core import storage
from homespun_core.paths import DataDir, repo_id
from tests.e2e.command import homespun
from tests.repos import git

pytestmark = [pytest.mark.faults, pytest.mark.e2e, pytest.mark.timeout(900)]
_FILES, _BLOB = 100_000, b"value = 1\n" * 20_000_000
_ODD = [
    b'"a \\"quoted\\" name.py"',
    b'"a\\nnew line.py"',
    b"-rf.py",
    b'"\\377\\376.py"',
    b"$(touch owned).py",
    b"--.py",
]


def test_what_cannot_count_is_left_out_with_its_reason_and_the_rest_is_indexed(tmp_path: Path) -> None:
    bare = tmp_path / "evil.git"
    git(tmp_path, "init", "--quiet", "--bare", "--initial-branch=main", str(bare))
    with subprocess.Popen(["git", "fast-import", "--quiet"], cwd=bare, stdin=subprocess.PIPE) as importer:
        assert importer.stdin is not None
        importer.stdin.writelines(_commit())
    assert importer.returncode == 0
    done = homespun("index", str(bare), "--data-dir=data", cwd=tmp_path, timeout=800)
    assert done.returncode == 0, done.stderr
    assert f"evil: {_FILES + len(_ODD):,} files" in done.stdout, done.stdout
    left_out = re.search(r"left out:  (.*)", done.stdout)
    assert left_out and all(why in left_out[1] for why in ("too large 1", "symbolic link 2", "submodule 1")), (
        done.stdout
    )
    assert not list(tmp_path.rglob("owned*"))
    index = storage.current(DataDir(tmp_path / "data").index(repo_id(str(bare))))
    assert index is not None
    assert not any(b"root:x:0:0" in file.read_bytes() for file in index.iterdir())


def _commit() -> Iterator[bytes]:
    yield b"commit refs/heads/main\ncommitter E <e@example.com> 1700000000 +0000\ndata 4\nevil\n"
    for number in range(_FILES):
        code = b"def function_%d(argument):\n    return argument + %d\n" % (number, number)
        yield b"M 100644 inline m%d/f%d.py\ndata %d\n%s\n" % (number % 300, number, len(code), code)
    for name in _ODD:
        yield b"M 100644 inline %s\ndata 12\nodd_name = 1\n" % name
    yield b"M 100644 inline huge.py\ndata %d\n%s\n" % (len(_BLOB), _BLOB)
    yield b"M 120000 inline passwd.py\ndata 11\n/etc/passwd\n"
    yield b"M 120000 inline loop.py\ndata 7\nloop.py\n"
    yield b"M 160000 %s submodule\n" % (b"1" * 40)
