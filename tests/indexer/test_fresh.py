from __future__ import annotations

from pathlib import Path

import pytest

from homespun_core.config import Settings
from homespun_core.errors import RepositoryError
from homespun_core.paths import DataDir
from homespun_core.types import EvalTask, SilentProgress
from homespun_indexer import forgotten
from homespun_indexer.forgotten import Forgotten
from homespun_indexer.fresh import fresh_places
from homespun_indexer.repository import Repository, at_commit, open_repository
from tests.repos import SHOP, commit, git, make_repo


def opened(path: Path) -> Repository:
    return open_repository(str(path), DataDir(path / "data"), timeout_s=60, progress=SilentProgress())


def fresh(path: Path, since: str, count: int = 40) -> list[EvalTask]:
    return fresh_places(opened(path), Settings(), DataDir(path / "data"), since=since, count=count)


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    return make_repo(tmp_path / "shop", SHOP)


def test_places_are_lines_written_since(shop: Path) -> None:
    since = git(shop, "rev-parse", "HEAD")
    assert fresh(shop, since) == []
    newest = commit(shop, {"shop/tax.py": "def tax_of(price):\n    return price * TAX_RATE // 100\n"}, day=1)
    places = fresh(shop, since)
    assert {place.path for place in places} == {"shop/tax.py"} and {place.commit for place in places} == {newest}
    assert any("return price * TAX_RATE" in (place.prefix + place.middle) for place in places)


def test_no_more_than_asked_for_and_the_newest_ones(shop: Path) -> None:
    since = git(shop, "rev-parse", "HEAD")
    for day in range(1, 12):
        lines = "".join(f"value_{day}_{n} = compute_value({day}, {n})\n" for n in range(10))
        newest = commit(shop, {f"shop/m{day}.py": lines}, day=day)
    places = fresh(shop, since, count=8)
    assert len(places) == 8
    assert newest in {place.commit for place in places}


def test_lines_of_before_are_not_fresh_where_newer_commits_have_no_source(shop: Path) -> None:
    commit(shop, {"shop/tax.py": "def tax_of(price):\n    return price * TAX_RATE // 100\n"}, day=1)
    since = git(shop, "rev-parse", "HEAD")
    commit(shop, {"notes.txt": "one\n"}, day=2)
    assert fresh(shop, since) == []


def test_what_is_forgotten_is_not_asked_for(shop: Path) -> None:
    since = git(shop, "rev-parse", "HEAD")
    tax = "def tax_of(price):\n    return price * TAX_RATE // 100\n"
    commit(shop, {"shop/tax.py": tax, "shop/toll.py": tax.replace("tax", "toll").replace("TAX", "TOLL")}, day=1)
    assert {place.path for place in fresh(shop, since)} == {"shop/tax.py", "shop/toll.py"}
    forgotten.add(DataDir(shop / "data"), Forgotten(path="tax.py"))
    assert {place.path for place in fresh(shop, since)} == {"shop/toll.py"}


def test_there_are_none_since_a_commit_that_is_gone(shop: Path) -> None:
    assert fresh(shop, "0" * 40) == []


def test_a_repository_as_of_another_commit(shop: Path) -> None:
    first = git(shop, "rev-parse", "HEAD")
    commit(shop, {"a.py": "x = 1\n"}, day=1)
    assert at_commit(opened(shop), first[:12]).head == first
    with pytest.raises(RepositoryError, match="no commit"):
        at_commit(opened(shop), "--help")
