from __future__ import annotations

from pathlib import Path

import pytest

from homespun_core.config import Settings
from homespun_core.paths import DataDir
from homespun_core.types import SilentProgress
from homespun_indexer.changes import Change, added_bytes, changed_source
from homespun_indexer.repository import open_repository
from tests.repos import commit, git, make_repo


def change(path: Path, since: str | None) -> Change:
    repo = open_repository(str(path), DataDir(path / "data"), timeout_s=60, progress=SilentProgress())
    return changed_source(repo, settings=Settings(), since=since)


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    return make_repo(tmp_path / "shop", {"a.py": "x = 1\ny = 2\n", "b.py": "z = 3\n" * 50})


def test_only_lines_that_are_new_count(shop: Path) -> None:
    start = git(shop, "rev-parse", "HEAD")
    commit(shop, {"a.py": "x = 1\ny = 4\nz = 5\n"}, day=1)
    assert change(shop, start) == Change(added=len("y = 4\nz = 5\n"), total=18 + 300)


def test_a_moved_file_and_a_deleted_line_add_nothing(shop: Path) -> None:
    start = git(shop, "rev-parse", "HEAD")
    git(shop, "mv", "b.py", "c.py")
    commit(shop, {"a.py": "x = 1\n"}, day=1)
    assert change(shop, start).added == 0


def test_what_the_index_leaves_out_does_not_count(shop: Path) -> None:
    start = git(shop, "rev-parse", "HEAD")
    commit(
        shop,
        {
            "vendor/lib.py": "v = 1\n" * 100,
            "notes.txt": "n\n" * 100,
            "gen.py": "g = 1\n" * 100,
            ".gitattributes": "gen.py linguist-generated\n",
        },
        day=1,
    )
    assert change(shop, start).added == 0


def test_of_a_commit_that_is_gone_everything_is_new(shop: Path) -> None:
    assert change(shop, "0" * 40) == change(shop, None) == Change(added=312, total=312)


def test_where_a_content_is_missing_a_changed_file_counts_whole(shop: Path) -> None:
    """As in a partial clone: git ends at the first one, and what it said until then was taken for all there is."""
    start = git(shop, "rev-parse", "HEAD")
    blob = git(shop, "rev-parse", "HEAD:a.py")
    commit(shop, {"a.py": "x = 1\ny = 4\n", "b.py": "z = 3\n" * 51}, day=1)
    (shop / ".git" / "objects" / blob[:2] / blob[2:]).unlink()
    assert change(shop, start).added == 12 + 306


def test_lines_that_look_like_headers_are_lines() -> None:
    patch = b"--- a/a.py\n+++ b/a.py\n@@ -1 +1,2 @@\n--- x\n+++ b/other.py\n+y\n"
    patch += b"--- a/o.txt\n+++ b/o.txt\n@@ -0,0 +1 @@\n+no\n"
    assert added_bytes(patch.splitlines(keepends=True), {b"a.py"}) == len("++ b/other.py\n") + len("y\n")
