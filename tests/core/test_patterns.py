"""The language of .gitignore, compared with git's own reading of it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from homespun_core.patterns import (
    MAX_CHARS,
    MAX_PATTERNS,
    is_ignored,
    parse_attributes,
    parse_globs,
    parse_ignore,
)
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
        "**",
        "src/**/",
        "**/build/*",
        "s*c/*/a*y",
        "docs/[[]x].md",
        "docs/\\[x\\].md",
        "[[:lower:]].txt",
        "[z-a].txt",
        "b.txt ",
        "a.py\\ ",
        "[a",
        "a.py\\",
    ],
)
def test_a_pattern_ignores_what_git_ignores(tmp_path: Path, pattern: str) -> None:
    path = make_repo(tmp_path / "r")
    write(path, dict.fromkeys(PATHS, "x") | {".gitignore": pattern + "\n"})
    kept = set(git(path, "ls-files", "--others", "--exclude-standard").splitlines())
    rules = parse_ignore(pattern)
    assert {p for p in PATHS if is_ignored(p, rules)} == set(PATHS) - kept


NAMES = ["a", "b", "ab", "ba", "aab", "a.b", "a-b", "abab", "c", "]", "[", "!a", "a b"]
GLOB_NAMES = st.lists(
    st.sampled_from([*"abc.-*?", "[ab]", "[!a]", "[^b]", "[a-c]", "[]a]", "[!]]", "[a-]", "[[:alpha:]]", "\\*", "\\a"]),
    min_size=1,
    max_size=5,
).map("".join)
GLOBS = st.tuples(
    st.sampled_from(["", "/"]),
    st.lists(st.just("**") | GLOB_NAMES, min_size=1, max_size=4).map("/".join),
    st.sampled_from(["", "/"]),
).map("".join)


@given(GLOBS)
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_pattern_ignores_what_git_ignores(tmp_path: Path, glob: str) -> None:
    repo = tmp_path / "r"
    if not repo.exists():
        make_repo(repo)
    paths = [f"{a}/{b}" for a in NAMES for b in NAMES] + [f"{a}/{b}/{a}" for a in NAMES for b in NAMES] + NAMES
    (repo / ".git" / "info").mkdir(exist_ok=True)
    (repo / ".git" / "info" / "exclude").write_text(f"{glob}\n")
    command = ["git", "check-ignore", "--no-index", "-z", "--stdin"]
    done = subprocess.run(command, cwd=repo, input="\0".join(paths), capture_output=True, text=True, check=False)
    rules = parse_ignore(glob)
    assert {p for p in paths if is_ignored(p, rules)} == set(filter(None, done.stdout.split("\0")))


@pytest.mark.parametrize(
    ("glob", "path"),
    [
        ("*a" * 120 + "b", "a" * 4_000),
        ("*a*" * 80 + "b", "a" * 4_000),
        ("**/" * 80 + "b", "a/" * 2_000 + "a"),
        ("**/a/" * 45 + "b", "a/" * 2_000 + "a"),
        ("**/*a*/" * 30 + "b", "aa/" * 1_300 + "a"),
        ("*" * 249 + "b", "a" * 4_000),
        ("*?" * 120 + "b", "a" * 4_000),
        ("*[a-b]" * 40 + "c", "a" * 4_000),
        ("[" * 250, "[" * 4_000),
        ("[[:" * 80, "[[:" * 1_000),
        ("\\" * 250, "\\" * 4_000),
    ],
)
@pytest.mark.timeout(5)
def test_no_pattern_takes_long(glob: str, path: str) -> None:
    """With one expression a star these would outlive us: each star doubles the ways to match."""
    assert not is_ignored(path, parse_ignore(glob))
    parse_attributes(f'"{glob}" linguist-generated', "", ["linguist-generated"])


def test_too_many_and_too_long_patterns_are_not_followed(caplog: pytest.LogCaptureFixture) -> None:
    text = "\n".join(f"name{i}" for i in range(MAX_PATTERNS + 1))
    rules = parse_ignore(text)
    assert len(rules) == MAX_PATTERNS and is_ignored("name0", rules)
    assert "patterns after the first 1000 of the repository are not followed" in caplog.text
    caplog.clear()
    attributes = "\n".join(f"name{i} linguist-generated" for i in range(MAX_PATTERNS + 1))
    assert len(parse_attributes(attributes, "", ["linguist-generated"])) == MAX_PATTERNS
    assert "are not followed" in caplog.text
    caplog.clear()
    assert parse_ignore("x" * (MAX_CHARS + 1) + "\nshort\n") == parse_ignore("short")
    assert "a pattern of 251 characters is not followed" in caplog.text


def test_a_byte_order_mark_is_no_part_of_the_first_pattern() -> None:
    assert is_ignored("secret.py", parse_ignore("\ufeffsecret.py\nother.py"))
    (rule,) = parse_attributes("\ufeffgen/* linguist-generated", "", ["linguist-generated"])
    assert rule[0].matches("gen/a.py")


def test_globs_of_the_settings_are_patterns_too() -> None:
    rules = parse_globs(["src/**", "!src/old/", "#x"])
    assert [p for p in ("src/a.py", "src/old/a.py", "#x", "b.py") if is_ignored(p, rules)] == ["src/a.py", "#x"]


def test_attributes_of_names_with_spaces_are_quoted() -> None:
    text = '"with space/*.py" linguist-vendored\n*.md text\n[attr]x linguist-vendored\n!a linguist-vendored\n'
    ((pattern, name, value),) = parse_attributes(text, "", ["linguist-vendored"])
    assert (name, value) == ("linguist-vendored", True)
    assert pattern.matches("with space/a.py")


def test_the_last_match_decides() -> None:
    rules = parse_ignore("# generated\n*.py\n!keep.py\n\n")
    assert is_ignored("x/a.py", rules)
    assert not is_ignored("x/keep.py", rules)


def test_attributes_count_below_their_own_folder() -> None:
    rules = parse_attributes("*.go linguist-generated\na.go -linguist-generated text\n", "api", ["linguist-generated"])
    values = {p: [v for pattern, _, v in rules if pattern.matches(p)] for p in ("api/b.go", "api/a.go", "b.go")}
    assert values == {"api/b.go": [True], "api/a.go": [True, False], "b.go": []}
