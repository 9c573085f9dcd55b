from __future__ import annotations

from pathlib import Path

import pytest

from homespun_core.config import Settings
from homespun_core.errors import RepositoryError
from homespun_core.types import SilentProgress
from homespun_indexer import forgotten, people
from homespun_indexer.forgotten import Forgotten
from homespun_indexer.history import MAX_STEP_LINES
from homespun_indexer.since import Since, commits_after, position_of, tasks_since
from tests.indexer.conftest import Indexer
from tests.repos import commit, commit_dated, git, make_repo


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """Ten commits of one function each, a day apart; the first day is 2023-11-14."""
    path = make_repo(tmp_path_factory.mktemp("since") / "r", {"shop.py": "START = 1\n"})
    text, commits = "START = 1\n", [git(path, "rev-parse", "HEAD")]
    for i in range(1, 10):
        text += f"\n\ndef function_{i}(basket):\n    return basket.total_{i}(currency, option={i})\n"
        commits.append(commit(path, {"shop.py": text}, f"Add {i}", day=i))
    return path, commits


def since(indexer: Indexer, path: Path, when: str, count: int = 100) -> Since:
    return tasks_since(indexer.open(path), Settings(), indexer.data, when, count, SilentProgress())


def lines_of(found: Since) -> set[str]:
    return {task.prefix.rsplit("\n", 1)[1] + task.middle for task in found.tasks}


def test_only_lines_written_after_the_commit_are_asked_for(history: tuple[Path, list[str]], indexer: Indexer) -> None:
    path, commits = history
    found = since(indexer, path, commits[6][:12])
    assert found.commit == commits[6]
    assert {t.commit for t in found.tasks} == set(commits[7:])
    assert any("total_8" in line for line in lines_of(found)) and not any("total_6" in line for line in lines_of(found))


def test_a_day_counts_from_its_beginning(history: tuple[Path, list[str]], indexer: Indexer) -> None:
    path, commits = history
    assert since(indexer, path, "2023-11-20").commit == commits[5]  # the commits are made at 22:13 each day


def test_a_commit_without_a_readable_date_is_before_no_day(tmp_path: Path, indexer: Indexer) -> None:
    path = make_repo(tmp_path / "r", {"shop.py": "START = 1\n"})
    first = git(path, "rev-parse", "HEAD")
    commit_dated(path, {"a.py": "def price(item):\n    return item.price * item.count\n"}, "yesterday")
    assert since(indexer, path, "2023-11-20").commit == first


class Counting:
    """A Progress that keeps what was said last."""

    def __init__(self) -> None:
        self.done = 0

    def start(self, label: str, total: int | None = None, unit: str = "", done: int = 0) -> None:
        self.done = done

    def advance(self, done: int, note: str = "") -> None:
        self.done = done

    def finish(self, note: str = "") -> None:
        pass


def test_nothing_is_read_beyond_the_commit(tmp_path: Path, indexer: Indexer) -> None:
    """Where commits without source came after it, as many of the ones before it were read: all of them, if need be."""
    path = make_repo(tmp_path / "r", {"shop.py": "START = 1\n"})
    cut = git(path, "rev-parse", "HEAD")
    for i in range(3):
        commit(path, {"README.md": f"{i}\n"}, "Describe", day=i + 1)
    commit(path, {"shop.py": "START = 1\n\n\ndef price(item):\n    return item.price * item.count\n"}, "Add", day=9)
    progress = Counting()
    assert len(tasks_since(indexer.open(path), Settings(), indexer.data, cut, 100, progress).tasks) == 2
    assert progress.done == 1


def test_more_places_begin_with_the_same_ones(history: tuple[Path, list[str]], indexer: Indexer) -> None:
    path, commits = history
    few, many = (since(indexer, path, commits[1], count).tasks for count in (3, 7))
    assert len(few) == 3 and len(many) == 7 and many[:3] == few


def test_a_line_is_seen_that_stood_there_or_was_added_before_its_own_commit(tmp_path: Path, indexer: Indexer) -> None:
    """A commit too large to ask about counts, too; a later commit doesn't."""
    first, second, third = (f"    total = basket.sum_of(prices, option={n})\n" for n in range(3))
    path = make_repo(tmp_path / "r", {"shop.py": f"def a():\n{first}"})
    cut = git(path, "rev-parse", "HEAD")
    many = "basket.refresh(currency)\n" * MAX_STEP_LINES
    commit(path, {"large.py": many + second}, "Import", day=1)
    commit(path, {"new.py": f"B = {{\n{first}{second}{third}}}"}, "Write", day=2)
    commit(path, {"larger.py": many + third}, "Import again", day=3)
    seen = {task.middle[-2:]: task.seen for task in since(indexer, path, cut).tasks}
    assert seen == {"0)": True, "1)": True, "2)": False}


def test_nothing_is_asked_for_of_what_is_forgotten(tmp_path: Path, indexer: Indexer) -> None:
    """By path, and by an author who changed the file at any time: as a corpus leaves them out."""
    path = make_repo(tmp_path / "r", {"shop.py": "START = 1\n"})
    text = "def price_of(basket):\n    return basket.{}(currency, option=1)\n"
    for day, name in enumerate(("payments/card", "stock", "shop"), 1):
        commit(path, {f"{name}.py": text.format(name.replace("/", "_"))}, f"Add {name}", day=day)
    start = git(path, "rev-list", "--max-parents=0", "HEAD")
    forgotten.add(indexer.data, Forgotten(path="payments/**"))
    assert {t.path for t in since(indexer, path, start).tasks} == {"shop.py", "stock.py"}
    address = git(path, "log", "-1", "--format=%ae")
    forgotten.add(indexer.data, Forgotten(author=people.author_hash(indexer.data)(address)))
    with pytest.raises(RepositoryError, match=r"\(lines left out: 6 forgotten\).*homespun forget --list"):
        since(indexer, path, start)


@pytest.mark.parametrize(
    ("when", "said"),
    [
        ("nonsense", "is no commit there"),
        ("--output=x", "is no commit there"),
        ("2023-13-45", "is no day"),
        ("2000-01-01", "no commit before"),
        ("2040-01-01", "no line to ask for"),
        ("HEAD", "no line to ask for"),
    ],
)
def test_what_cannot_be_meant_is_one_line(
    history: tuple[Path, list[str]], indexer: Indexer, when: str, said: str
) -> None:
    with pytest.raises(RepositoryError, match=said) as error:
        since(indexer, history[0], when)
    assert "\n" not in str(error.value)


def test_a_commit_beside_the_main_line_is_refused(tmp_path: Path, indexer: Indexer) -> None:
    path = make_repo(tmp_path / "r", {"a.py": "x = 1\n"})
    git(path, "checkout", "-q", "-b", "side")
    side = commit(path, {"b.py": "y = 2\n"}, "Side")
    git(path, "checkout", "-q", "main")
    with pytest.raises(RepositoryError, match="isn't on the main line"):
        since(indexer, path, side)
    assert position_of(indexer.open(path), side) is None


def test_the_position_of_a_commit_is_how_many_came_after_it(history: tuple[Path, list[str]], indexer: Indexer) -> None:
    path, commits = history
    repo = indexer.open(path)
    assert [position_of(repo, c) for c in (commits[-1], commits[0])] == [0, 9]


def test_what_came_after_a_commit(history: tuple[Path, list[str]], indexer: Indexer) -> None:
    path, commits = history
    repo = indexer.open(path)
    assert commits_after(repo, commits[6]) == frozenset(commits[7:])
    assert commits_after(repo, commits[-1]) == frozenset() and commits_after(repo, "0" * 40) is None
