"""The added lines of a history are those that git shows."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homespun_core.config import Settings
from homespun_indexer.files import source_files
from homespun_indexer.history import MAX_STEP_LINES, Mainline, Step, _parsed, last_changed, mainline, steps
from homespun_indexer.people import author_hash, pasts
from homespun_indexer.tree import BlobReader
from tests.indexer.conftest import Indexer
from tests.repos import commit, commit_dated, git, make_repo


def test_added_lines_have_their_places_in_both_files(tmp_path: Path, indexer: Indexer) -> None:
    path = make_repo(tmp_path / "r", {"a.py": "one\ntwo\nthree\nfour\n"})
    commit(path, {"a.py": "one\nnew\ntwo\nthree changed\nfour\nend\n"}, "Edit")
    step = next(iter(steps(indexer.open(path), 10)))
    (file,) = step.files
    assert [(a.start, a.lines, a.old_below) for a in file.added] == [
        (2, ("new",), 2),
        (4, ("three changed",), 4),
        (6, ("end",), 5),
    ]
    assert file.new_blob == git(path, "rev-parse", "HEAD:a.py")
    assert file.old_blob == git(path, "rev-parse", "HEAD~:a.py")


def test_lines_that_look_like_headers_are_only_lines(tmp_path: Path, indexer: Indexer) -> None:
    path = make_repo(tmp_path / "r", {"a.py": "x\n-- y\n"})
    tricky = ["++ b/evil.py", "diff --git a/x b/x", "@@ -1 +1 @@", "\x01deadbeef", "+++ b/evil.py", "\\ No newline"]
    commit(path, {"a.py": "x\n" + "\n".join(tricky)}, "Tricky")
    newest, first = steps(indexer.open(path), 10)
    assert [f.path for f in newest.files] == ["a.py"]
    assert newest.files[0].added[0].lines == tuple(tricky)
    assert first.parent is None


def test_renames_add_only_what_changed(tmp_path: Path, indexer: Indexer) -> None:
    text = "".join(f"line {i}\n" for i in range(50))
    path = make_repo(tmp_path / "r", {"old.py": text})
    (path / "old.py").unlink()
    commit(path, {"new.py": text + "added\n"}, "Rename")
    step = next(iter(steps(indexer.open(path), 10)))
    assert [(f.path, [a.lines for a in f.added]) for f in step.files] == [("new.py", [("added",)])]


def test_a_long_history_may_be_read_for_hours(
    tmp_path: Path, indexer: Indexer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It had ten minutes, which some hundred thousand commits take."""
    repo, limits = indexer.open(make_repo(tmp_path / "r", {"a.py": "x = 1\n"})), list[float]()

    class Timer(threading.Timer):
        def __init__(self, interval: float, function: Callable[[], None]) -> None:
            limits.append(interval)
            super().__init__(interval, function)

    monkeypatch.setattr(threading, "Timer", Timer)
    assert len(pasts(repo, repo.head, author_hash(indexer.data))) == len(list(steps(repo, 10))) == 1
    with BlobReader(repo) as blobs:
        assert blobs.read("HEAD:a.py") == b"x = 1\n"
    assert len(limits) == 3 and min(limits) >= 3_600


@pytest.mark.parametrize("more", [0, 1])
def test_a_large_step_is_counted_and_not_kept(tmp_path: Path, indexer: Indexer, more: int) -> None:
    """It was held in memory whole, only to be called too large."""
    numbers = {"a.py": 1_000, "b.py": MAX_STEP_LINES - 1_500, "c.py": 400 + more, "d.py": 100}
    texts = {path: "".join(f"value_{i} = {i}\n" for i in range(n)) for path, n in numbers.items()}
    path = make_repo(tmp_path / "r", {"z.py": "x\n"})
    commit(path, texts, "Import")
    commit(path, {"z.py": "x\ny\n"}, "Edit")
    edit, large, _ = steps(indexer.open(path), 10)
    assert large.num_added == MAX_STEP_LINES + more and {f.path: f.num_added for f in large.files} == numbers
    assert large.reason == ("large commit" if more else None)
    kept = {f.path: [(a.start, "".join(f"{line}\n" for line in a.lines)) for a in f.added] for f in large.files}
    assert kept == ({path: [] for path in texts} if more else {path: [(1, text)] for path, text in texts.items()})
    assert edit.num_added == 1 and edit.files[0].added[0].lines == ("y",)


def test_only_source_files_are_looked_at_and_odd_names_do_no_harm(tmp_path: Path, indexer: Indexer) -> None:
    path = make_repo(tmp_path / "r", {"a.py": "x\n"})
    commit(path, {"data.csv": "1,2\n", "Dockerfile": "FROM x\n", "ü b.py": "y\n", 'q"uote.py': "z\n"}, "More")
    step = next(iter(steps(indexer.open(path), 10)))
    assert {f.path for f in step.files} == {"Dockerfile", "ü b.py"}


def test_the_main_line_is_newest_first_and_limited(tmp_path: Path, indexer: Indexer) -> None:
    path = make_repo(tmp_path / "r", {"a.py": "x\n"})
    ids = [git(path, "rev-parse", "HEAD"), *(commit(path, {"a.py": f"{i}\n"}, day=i) for i in range(1, 5))]
    line = mainline(indexer.open(path), 3)
    assert line.commits == tuple(reversed(ids))[:3]
    assert line.times == tuple(sorted(line.times, reverse=True))


@pytest.mark.parametrize("date", ["", "yesterday", f"{'9' * 12} +0000", f"{'9' * 5_000} +0000"])
def test_a_commit_without_a_readable_date_is_of_no_time(tmp_path: Path, indexer: Indexer, date: str) -> None:
    """Trainings ended in a traceback: git prints nothing for such a date, or digits without end."""
    path = make_repo(tmp_path / "r", {"a.py": "x = 1\n"})
    odd = commit_dated(path, {"b.py": "y = 1\n"}, date)
    last = commit(path, {"c.py": "z = 1\n"}, day=1)
    repo = indexer.open(path)
    line, found = mainline(repo, 3), list(steps(repo, 3))
    assert line.commits[:2] == (last, odd) and line.times[0] > line.times[2] > line.times[1] == 0
    assert [(s.commit, s.time) for s in found] == list(zip(line.commits, line.times, strict=True))
    times = dict(zip(("c.py", "b.py", "a.py"), line.times, strict=True))
    assert last_changed(repo, repo.head, times) == times


def test_a_shallow_clone_ends_where_it_was_cut_off(tmp_path: Path, indexer: Indexer) -> None:
    path = make_repo(tmp_path / "r", {"a.py": "x\n"})
    for i in range(5):
        commit(path, {"a.py": f"value = {i}\n"}, day=i + 1)
    git(tmp_path, "clone", "--quiet", "--depth=2", path.as_uri(), "shallow")
    repo = indexer.open(tmp_path / "shallow")
    assert len(mainline(repo, 10).commits) == 2
    assert len(list(steps(repo, 10))) == 2


def test_changes_near_one_another_are_told_apart_whatever_is_configured(tmp_path: Path, indexer: Indexer) -> None:
    text = "".join(f"line {i}\n" for i in range(12))
    path = make_repo(tmp_path / "r", {"a.py": text})
    commit(path, {"a.py": text.replace("line 3\n", "line 3\nnew\n").replace("line 8", "changed")})
    expected = list(steps(indexer.open(path), 10))
    git(path, "config", "diff.interHunkContext", "20")
    git(path, "config", "diff.context", "20")
    assert list(steps(indexer.open(path), 10)) == expected
    assert [(a.start, a.lines, a.old_below) for a in expected[0].files[0].added] == [
        (5, ("new",), 5),
        (10, ("changed",), 10),
    ]


def test_context_lines_are_counted() -> None:
    hunk = ["@@ -1,4 +1,5 @@", " one", "+new", "", "-three", "+3", "\\ No newline at end of file", " four"]
    lines = ["\x01c\0\x000\0Ada\0Edit", "diff --git a/a.py b/a.py", "+++ b/a.py", *hunk, "\x01d\0\x000\0Ada\0Start"]
    newest, first = _parsed(iter(lines))
    assert [(a.start, a.lines, a.old_below) for a in newest.files[0].added] == [(2, ("new",), 2), (4, ("3",), 4)]
    assert first.commit == "d"


def test_a_subfolder_sees_the_whole_history_and_all_files(
    tmp_path: Path, indexer: Indexer, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make_repo(tmp_path / "r", {"a.py": "x = 1\n", "sub/b.py": "y = 1\n"})
    commit(path, {"a.py": "x = 2\n"})
    (path / "new.py").write_text("z = 1\n")
    git(path, "branch", "other")

    def seen(source: str, branch: str) -> tuple[list[str], int]:
        repo = indexer.open(Path(source), branch)
        return [f.path for f in source_files(repo, settings=Settings())], len(list(steps(repo, 10)))

    monkeypatch.chdir(path / "sub")
    assert seen("..", "") == (["a.py", "new.py", "sub/b.py"], 2)
    assert seen("..", "other") == (["a.py", "sub/b.py"], 2)


DAY = 86_400
DAILY = tuple(1_700_000_000 - i * DAY for i in range(60))


def within(times: tuple[int, ...], days: int, most: int = 40) -> int:
    return Mainline(commits=("",) * len(times), times=times).num_within(days * DAY, most)


@given(st.lists(st.tuples(st.integers(0, 59), st.integers(0, 2**33)), max_size=2))
def test_two_wrong_clocks_hardly_change_how_many_commits_a_period_has(wrong: list[tuple[int, int]]) -> None:
    times = list(DAILY)
    for at, time in wrong:
        times[at] = time
    assert abs(within(tuple(times), 20) - within(DAILY, 20)) <= 2


@given(st.lists(st.integers(1, 2**31), min_size=1, max_size=60), st.integers(0, 60))
def test_a_period_has_the_last_commit_and_at_most_as_many_as_asked_for(times: list[int], most: int) -> None:
    ordered = tuple(sorted(times, reverse=True))
    found = within(ordered, 365, most)
    assert min(1, most) <= found <= most
    if most:
        assert within(ordered, 2**20, most) == most


@pytest.mark.parametrize(
    ("author", "is_bot"),
    [
        ("Ada <ada@renovate-homes.example>", False),
        ("Ada <ada@snyk.io>", False),
        ("Ada <ada@team-bot.example>", False),
        ("dependabot[bot] <support@github.com>", True),
        ("x <49699333+dependabot[bot]@users.noreply.github.com>", True),
        ("x <29139614+renovate[bot]@users.noreply.github.com>", True),
        ("Snyk <snyk-bot@snyk.io>", True),
        ("Acme <bot@acme.example>", True),
        ("acme-bot <ci@acme.example>", True),
        ("Hosted Weblate <hosted@weblate.org>", True),
        ("pre-commit-ci", True),
    ],
)
def test_a_bot_is_known_by_its_name_or_mailbox_and_not_by_its_host(author: str, is_bot: bool) -> None:
    step = Step(commit="", parent=None, time=0, author=author, subject="Change")
    assert step.reason == ("bot" if is_bot else None)
