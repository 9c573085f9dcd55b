"""The index as of one commit after another, as a server that follows the repository had it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from homespun_core.config import Settings
from homespun_core.errors import RepositoryError
from homespun_core.paths import DataDir
from homespun_core.types import SearchQuery
from homespun_indexer.past import Past
from homespun_indexer.reader import IndexReader
from tests.indexer.answers import answers
from tests.indexer.conftest import Indexer
from tests.repos import commit, git, make_repo

ASKED = [f"    return basket.total_{n}(currency, option=" for n in (0, 1, 4, 90)]


@pytest.fixture
def history(tmp_path: Path) -> tuple[Path, list[str]]:
    """Six commits: a file more, one that changes, one that is gone."""
    path = make_repo(tmp_path / "r", {f"part_{n}.py": function(n) for n in range(3)})
    commits = [git(path, "rev-parse", "HEAD")]
    commits += [commit(path, {f"part_{n}.py": function(n)}, f"Add {n}", day=n) for n in range(3, 6)]
    commits.append(commit(path, {"part_0.py": function(0) + function(90)}, "Change", day=6))
    git(path, "rm", "-q", "part_1.py")
    commits.append(commit(path, {"part_2.py": function(91)}, "Replace", day=7))
    return path, commits


def function(n: int) -> str:
    return f"def price_{n}(basket):\n    return basket.total_{n}(currency, option={n})\n\n\n"


@pytest.fixture
def past(history: tuple[Path, list[str]], indexer: Indexer) -> Iterator[Past]:
    with Past(indexer.open(history[0]), Settings(), indexer.data, indexer.model, indexer.tokenizer) as opened:
        yield opened


def finds(index: IndexReader | None, word: str) -> bool:
    assert index is not None
    query = SearchQuery(prefix=f"x = {word}(", suffix="", path="new.py", language="python")
    return any(word in snippet.text for snippet in index.search(query, 5))


def test_what_a_commit_added_is_found_from_the_next_one_on(history: tuple[Path, list[str]], past: Past) -> None:
    _, commits = history
    assert not finds(past.before(commits[2]), "price_4") and finds(past.before(commits[3]), "price_4")
    assert finds(past.before(commits[5]), "price_1") and not finds(past.at(commits[5]), "price_1")
    assert not finds(past.before(commits[2]), "price_4")  # and back


def test_each_index_answers_as_one_that_was_made_at_once(
    history: tuple[Path, list[str]], past: Past, indexer: Indexer, tmp_path: Path
) -> None:
    path, commits = history
    for known in commits:
        other = Indexer(DataDir(tmp_path / known), indexer.model, indexer.tokenizer)
        with IndexReader.open(other.index(path, commit=known), indexer.tokenizer) as at_once:
            expected = answers(at_once, indexer.tokenizer, ASKED)
        assert answers(past.at(known), indexer.tokenizer, ASKED) == expected


def test_an_index_that_was_pruned_meanwhile_is_made_anew(history: tuple[Path, list[str]], past: Past) -> None:
    _, commits = history
    shutil.rmtree(past.at(commits[0]).path)
    assert finds(past.at(commits[1]), "price_3")


def test_before_the_first_commit_and_beside_the_main_line_nothing_was_known(
    history: tuple[Path, list[str]], past: Past
) -> None:
    _, commits = history
    with pytest.raises(RepositoryError, match="nothing is known of the time before"):
        past.before(commits[0])
    with pytest.raises(RepositoryError, match="isn't on the main line"):
        past.before("0" * 40)
    assert [past.age(c) for c in (commits[-1], commits[0])] == [0, 5]


def test_the_indexes_of_training_stay_where_they_are(
    history: tuple[Path, list[str]], past: Past, indexer: Indexer
) -> None:
    path, commits = history
    frozen = indexer.index(path, commit=commits[2])
    for known in commits:
        past.at(known)
    assert frozen.is_dir()


def test_while_all_code_was_gone_nothing_was_known(tmp_path: Path, indexer: Indexer) -> None:
    path = make_repo(tmp_path / "emptied", {"part.py": function(1), "README.md": "Parts\n"})
    git(path, "rm", "-q", "part.py")
    emptied = commit(path, {"README.md": "Nothing\n"}, "Empty", day=1)
    again = commit(path, {"part.py": function(2)}, "Again", day=2)
    last = commit(path, {"other.py": function(3)}, "Other", day=3)
    with Past(indexer.open(path), Settings(), indexer.data, indexer.model, indexer.tokenizer) as past:
        known = [past.before(commit) for commit in (emptied, again, last)]
    assert known[0] is not None and known[1] is None and known[2] is not None
