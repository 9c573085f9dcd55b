"""The language of .gitignore, compared with git's own reading of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from homespun_indexer.patterns import is_ignored, parse_attributes, parse_ignore
from tests.repos import git, make_repo, write

PATHS = [
    "a.py",
    "b.txt",
    "src/a.py",
    "src/deep/a.py",
    "src/deep/gen.py",
    "build/out.py",
    "src/build/x.py",
    "docs/[x].md",
]


@pytest.mark.parametrize(
    "pattern",
    [
        "*.py",
        "/a.py",
        "src/*.py",
        "src/**/a.py",
        "**/deep",
        "build/",
        "/build/",
        "src/**",
        "?.py",
        "[ab].*",
        "[!a].py",
        "deep/a.py",
    ],
)
def test_a_pattern_ignores_what_git_ignores(tmp_path: Path, pattern: str) -> None:
    path = make_repo(tmp_path / "r")
    write(path, dict.fromkeys(PATHS, "x") | {".gitignore": pattern + "\n"})
    kept = set(git(path, "ls-files", "--others", "--exclude-standard").splitlines())
    rules = parse_ignore(pattern)
    assert {p for p in PATHS if is_ignored(p, rules)} == set(PATHS) - kept


def test_the_last_match_decides() -> None:
    rules = parse_ignore("# generated\n*.py\n!keep.py\n\n")
    assert is_ignored("x/a.py", rules)
    assert not is_ignored("x/keep.py", rules)


def test_attributes_count_below_their_own_folder() -> None:
    rules = parse_attributes("*.go linguist-generated\na.go -linguist-generated text\n", "api", ["linguist-generated"])
    values = {
        p: [v for pattern, _, v in rules if pattern.expression.match(p)] for p in ("api/b.go", "api/a.go", "b.go")
    }
    assert values == {"api/b.go": [True], "api/a.go": [True, False], "b.go": []}
